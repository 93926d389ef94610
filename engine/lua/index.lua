-- Files reservations under what they are found by. The cursor is the last event of the ledger that has been filed:
-- who goes on from another one is overtaken and changes nothing, so no event is left out and none undoes a later one.
--@verb index
--@flags
--@include builtins state clock card claims record batch
--@key meta inv:{p}:meta hash r
--@key find inv:{p}:find zset w
--@key found inv:{p}:found hash rw
--@arg request... prior(1 + n) cursor(1 + n) added(H) of { entry(1 + n) } gone(H) of { entry(1 + n) }
--@answer overtaken [word, cursor]
--@answer indexed integer: how many entries it named

-- Notes the entries of a list, and whether they shall be there; how many, and where it ends.
local function note_entries(wanted, request, at, is_there)
  local count, entry
  count, at = unpack_struct('<H', request, at)
  for _ = 1, count do
    entry, at = unpack_struct('<Bc0', request, at)
    wanted[entry] = is_there
  end
  return count, at
end

local function write_entries(key, wanted)
  local added, gone, size = {}, {}, 0
  for entry, is_there in pairs(wanted) do
    if is_there then
      added[size + 1], added[size + 2] = 0, entry
      size = size + 2
    else
      gone[#gone + 1] = entry
    end
  end
  for first = 1, size, 2000 do
    redis.call('ZADD', key, unpack_table(added, first, math_min(first + 1999, size)))
  end
  for first = 1, #gone, 1000 do
    redis.call('ZREM', key, unpack_table(gone, first, math_min(first + 999, #gone)))
  end
end

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
