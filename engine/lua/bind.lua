-- Binds operation ids to their content before it takes effect in another partition.
--@verb bind
--@flags
--@include builtins state clock card claims record batch
--@key meta inv:{p}:meta hash r
--@key operations inv:{p}:ops hash rw
--@key due inv:{p}:due zset rw
--@arg request... id(12) fingerprint(8) keep_ms(I6)
--@answer idempotency_mismatch [word]
--@answer bound integer: how many have asked for it

local MOST_ASKED = 255

local function decide_bind(id, mark, keep_ms)
  local prior, count, until_ms = remembered[id], 0, now_ms + keep_ms
  if prior and not is_abandoned(prior)
    and (string_byte(prior) ~= KIND.BOUND or unpack_struct('<I6', prior, 11) > now_ms) then
    if string_byte(prior) ~= KIND.BOUND or string_sub(prior, 3, 10) ~= mark then
      return { 'idempotency_mismatch' }
    end
    count, until_ms = string_byte(prior, 2), math_max(until_ms, (unpack_struct('<I6', prior, 11)))
  end
  count = math_min(count + 1, MOST_ASKED)
  remember_operation(id, pack('<BBc8I6', KIND.BOUND, count, mark, until_ms))
  add_due('p', until_ms, id)
  return count
end

local function bind(keys, args)
  begin_batch(keys[1], keys[2], keys[3])
  local answer, ids = begin_answer(#args), {}
  for i = 1, #args do
    ids[i] = string_sub(args[i], 1, OPERATION_SIZE)
  end
  load_operations(ids)
  for i = 1, #args do
    local id, mark, keep_ms = unpack_struct('<c12c8I6', args[i])
    answer[i + 3] = decide_bind(id, mark, keep_ms)
  end
  --@writes
  write_batch()
  return answer
end
