-- Takes back a bind whose operation was refused: an id of which nothing came is free.
--@verb unbind
--@flags allow-oom
--@include builtins state clock card claims record batch
--@key meta inv:{p}:meta hash r
--@key operations inv:{p}:ops hash rw
--@arg request... id(12) fingerprint(8)
--@answer unbound integer: how many who asked for it may have made something of it

-- As many as are counted at the most: nobody knows how many there were.
local UNCOUNTED = 255

local function decide_unbind(id, mark, gone)
  local prior = remembered[id]
  if not prior or string_byte(prior) ~= KIND.BOUND or string_sub(prior, 3, 10) ~= mark then
    return 0
  end
  local count = string_byte(prior, 2)
  if count == UNCOUNTED then
    return count
  elseif count == 1 then
    remembered[id] = false
    gone[#gone + 1] = id
  else
    remember_operation(id, string_sub(prior, 1, 1) .. pack('<B', count - 1) .. string_sub(prior, 3))
  end
  return count - 1
end

local function unbind(keys, args)
  begin_batch(keys[1], keys[2])
  local answer, ids, gone = begin_answer(#args), {}, {}
  for i = 1, #args do
    ids[i] = string_sub(args[i], 1, OPERATION_SIZE)
  end
  load_operations(ids)
  for i = 1, #args do
    local id, mark = unpack_struct('<c12c8', args[i])
    answer[i + 3] = decide_unbind(id, mark, gone)
  end
  --@writes
  write_batch()
  -- What was bound and unbound in one call was written above.
  delete_fields(keys[2], gone)
  return answer
end
