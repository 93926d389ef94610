-- Lists baskets whose last step not all partitions may know of, and parts that nobody has told what was decided.
-- What is listed and not settled is listed again.
--@verb repair
--@flags allow-oom
--@include builtins state clock card claims record batch
--@key meta inv:{p}:meta hash r
--@key operations inv:{p}:ops hash r
--@key due inv:{p}:due zset rw
--@arg request... limit(H): at the most how many
--@answer repairs list of id, record, id, record, ...

local AGAIN_MS = 5000

local function repair(keys, args)
  begin_batch(keys[1], keys[2], keys[3])
  local answer, found, ids = begin_answer(#args), {}, {}
  local entries = list_repairs((unpack_struct('<H', args[1])))
  for i = 1, #entries do
    ids[i] = string_sub(entries[i], 2)
  end
  load_operations(ids)
  for i = 1, #ids do
    local record = remembered[ids[i]]
    local kind = record and string_byte(record)
    -- The id of an abandoned basket may have been used anew.
    if kind == KIND.BASKET or kind == KIND.PART then
      found[#found + 1], found[#found + 2] = ids[i], record
      repairs[ids[i]] = now_ms + AGAIN_MS
    else
      swept_entries[#swept_entries + 1] = entries[i]
    end
  end
  answer[4] = found
  -- Further requests of the call find that it has been done.
  for i = 2, #args do
    answer[i + 3] = {}
  end
  --@writes
  write_batch()
  return answer
end
