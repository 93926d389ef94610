-- Forgets operations whose retention has passed: finished reservations and remembered operation ids.
--@verb forget
--@flags allow-oom
--@include builtins state clock card claims record batch
--@key meta inv:{p}:meta hash r
--@key operations inv:{p}:ops hash rw
--@key due inv:{p}:due zset rw
--@arg request... limit(H): about how many
--@answer forgotten [how many, whether more are due: 1 or 0]

local UNTOLD_MS = 60000 -- how long a basket is kept before somebody looks again whether its parts were told

-- When a memory may be forgotten; nil where that is not this index's business any more. A reservation that came
-- back to life (a retake) is kept; it is filed anew when it ends. While a hold lasts, a repeat of a step on it
-- must not count again. A basket whose parts have not all been told of its end is kept until they have been: it
-- alone knows what became of their units.
local function forget_at(id, record)
  local kind = record and string_byte(record)
  if not record then
    return nil
  elseif kind == KIND.MOVEMENT then
    return now_ms
  elseif kind == KIND.BOUND then
    -- One that was asked for again has a later entry.
    return unpack_struct('<I6', record, 11) <= now_ms and now_ms or nil
  elseif kind == KIND.OPERATION then
    local raw = remembered[string_sub(record, 11, 22)]
    local head = raw and (string_byte(raw) == KIND.RESERVATION or string_byte(raw) == KIND.BASKET)
      and decode_head(raw)
    return head and head.state == STATE.HELD and math_max(head.deadline_ms, now_ms + 1) or now_ms
  end
  local head = decode_head(record)
  if head.state <= STATE.COMMITTED or head.state == STATE.PENDING or head.deadline_ms > now_ms then
    return nil
  end
  local is_untold = kind == KIND.BASKET and redis.call('ZSCORE', key_of.due, repair_entry(id))
  return is_untold and now_ms + UNTOLD_MS or now_ms
end

-- The memories of the entries, and the reservations that they are about.
local function load_memories(listed)
  local ids, about = {}, {}
  for i = 1, #listed do
    swept_entries[#swept_entries + 1] = listed[i].entry
    for j = 1, #listed[i].ids do
      ids[#ids + 1] = listed[i].ids[j]
    end
  end
  load_operations(ids)
  for i = 1, #ids do
    local record = remembered[ids[i]]
    if record and string_byte(record) == KIND.OPERATION then
      about[#about + 1] = string_sub(record, 11, 22)
    end
  end
  load_operations(about)
  return ids
end

local function forget(keys, args)
  begin_batch(keys[1], keys[2], keys[3])
  local answer, gone = begin_answer(#args), {}
  local listed, more = list_due(BEHIND.MEMORIES, unpack_struct('<H', args[1]))
  local ids = load_memories(listed)
  for i = 1, #ids do
    local moment = forget_at(ids[i], remembered[ids[i]])
    if moment and moment > now_ms then
      add_due('p', moment, ids[i])
    elseif moment then
      gone[#gone + 1] = ids[i]
      remembered[ids[i]] = false
    end
  end
  answer[4] = { #gone, more and 1 or 0 }
  -- Further requests of the call find that it has been done.
  for i = 2, #args do
    answer[i + 3] = { 0, more and 1 or 0 }
  end
  --@writes
  delete_fields(keys[2], gone)
  write_batch()
  return answer
end
