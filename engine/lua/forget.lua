-- Forgets operations whose retention has passed: finished reservations and remembered operation ids.
--@verb forget
--@flags allow-oom
--@include builtins state clock card claims record batch
--@key meta inv:{p}:meta hash r
--@key operations inv:{p}:ops hash rw
--@key due inv:{p}:due zset rw
--@arg request... limit(H): about how many
--@answer forgotten [how many, whether more are due: 1 or 0]

-- A reservation that came back to life (a retake) is kept; it is filed anew when it ends.
local function is_forgettable(record)
  if not record then
    return false
  elseif string_byte(record) ~= KIND_RESERVATION then
    return true
  end
  local head = decode_head(record)
  return head.state > STATE.COMMITTED and head.deadline_ms <= now_ms
end

local function forget(keys, args)
  begin_batch(keys[1], keys[2], keys[3])
  local answer, ids, gone = begin_answer(#args), {}, {}
  local more = list_due(BEHIND_HOLDS, unpack_struct('<H', args[1]), ids)
  load_operations(ids)
  for i = 1, #ids do
    if is_forgettable(remembered[ids[i]]) then
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
