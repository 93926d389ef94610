-- Files reservations under what they are found by. The cursor is the last event of the ledger that has been filed:
-- who goes on from another one is overtaken and changes nothing, so no event is left out and none undoes a later one.
--@verb index
--@flags
--@include builtins state clock card claims record batch entries
--@key meta inv:{p}:meta hash r
--@key find inv:{p}:find zset w
--@key found inv:{p}:found hash rw
--@arg request... prior(1 + n) cursor(1 + n) added(H) of { entry(1 + n) } gone(H) of { entry(1 + n) }
--@answer overtaken [word, cursor]
--@answer indexed integer: how many entries it named

local function index(keys, args)
  begin_batch(keys[1])
  local answer, wanted = begin_answer(#args), {}
  local before = redis.call('HGET', keys[3], 'cursor') or ''
  local cursor = before
  for i = 1, #args do
    local prior, following, at = unpack_struct('<Bc0Bc0', args[i])
    if prior == cursor then
      local added, next_at = note_entries(wanted, args[i], at, true)
      local gone = note_entries(wanted, args[i], next_at, false)
      cursor, answer[i + 3] = following, added + gone
    else
      answer[i + 3] = { 'overtaken', cursor }
    end
  end
  --@writes
  write_entries(keys[2], wanted)
  if cursor ~= before then
    redis.call('HSET', keys[3], 'cursor', cursor)
  end
  return answer
end
