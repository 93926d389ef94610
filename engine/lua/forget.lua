-- Forgets operations whose retention has passed: finished reservations and remembered operation ids.
--@verb forget
--@flags allow-oom
--@include builtins state clock position record batch
--@key meta inv:{p}:meta hash r
--@key operations inv:{p}:ops hash rw
--@key due inv:{p}:due zset rw
--@arg entry... an entry of the index whose first byte is 'p'
--@answer forgotten integer: how many ids of the entry are gone

-- A reservation that came back to life (a retake) is kept; it is filed anew when it ends.
local function is_forgettable(record)
  if not record then
    return false
  end
  if string_byte(record) ~= KIND_RESERVATION then
    return true
  end
  local header = decode_header(record)
  return header.state > STATE_COMMITTED and header.deadline_ms <= now_ms
end

local function forget(keys, args)
  begin_batch(keys[1], keys[2], keys[3])
  local answer, gone, finished, due = begin_answer(), {}, {}, find_due(args)
  for i = 1, #args do
    local ids = due[i] and split_ids(args[i]) or {}
    load_operations(ids)
    local count = 0
    for j = 1, #ids do
      if is_forgettable(remembered[ids[j]]) then
        count = count + 1
        gone[#gone + 1] = ids[j]
      end
    end
    answer[i + 2] = count
    if due[i] then
      finished[#finished + 1] = args[i]
    end
  end
  --@writes
  for first = 1, #gone, 1000 do
    redis.call('HDEL', keys[2], unpack_table(gone, first, math_min(first + 999, #gone)))
  end
  if #finished > 0 then
    redis.call('ZREM', keys[3], unpack_table(finished))
  end
  return answer
end
