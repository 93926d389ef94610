-- Reads a document, and what an operation on it stored.
--@verb find_document
--@flags no-writes
--@include builtins state clock card claims record batch
--@key meta inv:{p}:meta hash r
--@key operations inv:{p}:ops hash r
--@key documents inv:{p}:documents hash r
--@arg request... id(12) operation(12)
--@answer found [seq, document, memory]: version(I4) is_pending(B) content; what is remembered of the operation; empty
--  where there is none

local function find_document(keys, args)
  begin_batch(keys[1], keys[2])
  local answer, ids, operations = begin_answer(#args), {}, {}
  for i = 1, #args do
    ids[i], operations[i] = unpack_struct('<c12c12', args[i])
  end
  load_operations(operations)
  local stored = redis.call('HMGET', keys[3], unpack_table(ids))
  for i = 1, #args do
    answer[i + 3] = { last_seq, stored[i] or '', remembered[operations[i]] or '' }
  end
  --@writes
  return answer
end
