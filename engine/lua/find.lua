-- Reads the records of operations.
--@verb find
--@flags no-writes
--@include builtins state clock card claims record batch
--@key meta inv:{p}:meta hash r
--@key operations inv:{p}:ops hash r
--@arg id... operation ids of 12 bytes
--@answer found [seq, record]: the record is empty where there is none
local function find(keys, args)
  begin_batch(keys[1], keys[2])
  load_operations(args)
  local answer = begin_answer(#args)
  for i = 1, #args do
    answer[i + 3] = { last_seq, remembered[args[i]] or '' }
  end
  --@writes
  return answer
end
