-- Forgets documents that ended long ago: nothing of them is open, and no effect is to follow.
--@verb forget_document
--@flags allow-oom
--@include builtins state clock card claims record batch entries
--@key meta inv:{p}:meta hash r
--@key documents inv:{p}:documents hash rw
--@key listed inv:{p}:listed zset w
--@key ended inv:{p}:ended zset rw
--@arg keep_ms how long a document is kept after it ended
--@arg request... id(12) version(I4) gone(H) of { entry(1 + n) }: the version that was seen, and its entries in the
--  index
--@answer forgotten integer: 1, or 0 where another version is stored or its time has not come

local function forget_document(keys, args)
  begin_batch(keys[1])
  -- Memories go by the same time: a document never goes before the operations that made it.
  local last_ms = math_min(now_ms, RUN.horizons[keys[1]] or now_ms) - tonumber(args[1])
  local answer, wanted, gone = begin_answer(#args - 1), {}, {}
  for i = 2, #args do
    local id, version, at = unpack_struct('<c12I4', args[i])
    local ended_ms = tonumber(redis.call('ZSCORE', keys[4], id) or now_ms)
    local stored = ended_ms <= last_ms and redis.call('HGET', keys[2], id)
    local is_over = stored and unpack_struct('<I4', stored) == version
    if is_over then
      note_entries(wanted, args[i], at, false)
      gone[#gone + 1] = id
    end
    answer[i + 2] = is_over and 1 or 0
  end
  --@writes
  if #gone > 0 then
    redis.call('HDEL', keys[2], unpack_table(gone))
    redis.call('ZREM', keys[4], unpack_table(gone))
    write_entries(keys[3], wanted)
  end
  return answer
end
