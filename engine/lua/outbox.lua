-- Lists documents with effects that nobody has seen to in time. They stay listed until somebody did.
--@verb outbox
--@flags no-writes
--@include builtins state clock card claims record batch
--@key meta inv:{p}:meta hash r
--@key due inv:{p}:due zset r
--@arg request... limit(H) offset(I4): at the most how many, and how many of the first to leave out
--@answer found list of document ids, the oldest step first

local function outbox(keys, args)
  begin_batch(keys[1])
  local answer = begin_answer(#args)
  for i = 1, #args do
    local limit, offset = unpack_struct('<HI4', args[i])
    local entries = redis.call('ZRANGE', keys[2], string_format('%d', BEHIND.OUTBOXES),
      string_format('%d', BEHIND.OUTBOXES + now_ms), 'BYSCORE', 'LIMIT', offset, limit)
    for j = 1, #entries do
      entries[j] = string_sub(entries[j], 2)
    end
    answer[i + 3] = entries
  end
  --@writes
  return answer
end
