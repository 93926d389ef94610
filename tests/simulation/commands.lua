-- The commands that our scripts and tests use, on keys of four types. One that is missing says so when it is
-- asked for: add it to `commands`, and to `writers` if it writes.
local format, match, upper, floor = string.format, string.match, string.upper, math.floor
local insert, remove = table.insert, table.remove

-- What the store that works at this moment holds, its time, and which start of the server it is.
local keys, now_us, run_id

local function fail(text)
  error({ err = text })
end

local function find(key, kind)
  local found = keys[key]
  if found and found.kind ~= kind then
    fail('WRONGTYPE Operation against a key holding the wrong kind of value')
  end
  return found
end

local function open(key, kind)
  local found = find(key, kind)
  if not found then
    found = kind == 'zset' and { kind = kind, scores = {}, size = 0, order = {} }
      or kind == 'stream' and { kind = kind, size = 0, last = { 0, 0 }, entries = {} }
      or { kind = kind, fields = {}, size = 0 }
    keys[key] = found
  end
  return found
end

local function need_integer(text)
  local number = tonumber(text)
  if not number or number % 1 ~= 0 then
    fail('ERR value is not an integer or out of range')
  end
  return number
end

local function write_number(number)
  return format('%.17g', number)
end

-- ---------------------------------------------------------------- strings and hashes

local commands = {}
local writers = {}

function commands.GET(a)
  local found = find(a[1], 'string')
  return found and found.value or false
end

function commands.SET(a)
  keys[a[1]] = { kind = 'string', value = a[2] }
  return { ok = 'OK' }
end

function commands.HGET(a)
  local hash = find(a[1], 'hash')
  return hash and hash.fields[a[2]] or false
end

function commands.HMGET(a)
  local hash, found = find(a[1], 'hash'), {}
  local fields = hash and hash.fields or {}
  for i = 2, #a do
    found[i - 1] = fields[a[i]] or false
  end
  return found
end

function commands.HSET(a)
  if #a < 3 or #a % 2 == 0 then
    fail("ERR wrong number of arguments for 'hset' command")
  end
  local hash, added = open(a[1], 'hash'), 0
  local fields = hash.fields
  for i = 2, #a, 2 do
    if not fields[a[i]] then
      added = added + 1
    end
    fields[a[i]] = a[i + 1]
  end
  hash.size = hash.size + added
  return added
end

function commands.HSETNX(a)
  local hash = find(a[1], 'hash')
  if hash and hash.fields[a[2]] then
    return 0
  end
  return commands.HSET(a)
end

function commands.HDEL(a)
  local hash, gone = find(a[1], 'hash'), 0
  if not hash then
    return 0
  end
  for i = 2, #a do
    if hash.fields[a[i]] then
      hash.fields[a[i]], gone = nil, gone + 1
    end
  end
  hash.size = hash.size - gone
  if hash.size == 0 then
    keys[a[1]] = nil
  end
  return gone
end

function commands.HEXISTS(a)
  local hash = find(a[1], 'hash')
  return hash and hash.fields[a[2]] and 1 or 0
end

function commands.HLEN(a)
  local hash = find(a[1], 'hash')
  return hash and hash.size or 0
end

function commands.HINCRBY(a)
  local by = need_integer(a[3])
  local hash = find(a[1], 'hash')
  local before = hash and hash.fields[a[2]] or '0'
  local after = tonumber(before)
  if not after or after % 1 ~= 0 then
    fail('ERR hash value is not an integer')
  end
  after = after + by
  commands.HSET({ a[1], a[2], format('%d', after) })
  return after
end

function commands.HGETALL(a)
  local hash, found = find(a[1], 'hash'), {}
  if hash then
    for field, value in pairs(hash.fields) do
      found[#found + 1], found[#found + 2] = field, value
    end
  end
  return found
end

-- ---------------------------------------------------------------- sorted sets

-- Where a member stands or would stand, by score and then by its bytes.
local function place_of(order, score, member)
  local low, high = 1, #order + 1
  while low < high do
    local middle = floor((low + high) / 2)
    local entry = order[middle]
    if entry[1] < score or entry[1] == score and entry[2] < member then
      low = middle + 1
    else
      high = middle
    end
  end
  return low
end

local function take_out(zset, member)
  local score = zset.scores[member]
  if not score then
    return false
  end
  remove(zset.order, place_of(zset.order, score, member))
  zset.scores[member], zset.size = nil, zset.size - 1
  return true
end

function commands.ZADD(a)
  if #a < 3 or #a % 2 == 0 then
    fail('ERR syntax error')
  end
  for i = 2, #a, 2 do
    if not tonumber(a[i]) then
      fail('ERR value is not a valid float')
    end
  end
  local zset, added = open(a[1], 'zset'), 0
  for i = 2, #a, 2 do
    local score, member = tonumber(a[i]), a[i + 1]
    if not take_out(zset, member) then
      added = added + 1
    end
    insert(zset.order, place_of(zset.order, score, member), { score, member })
    zset.scores[member], zset.size = score, zset.size + 1
  end
  return added
end

function commands.ZREM(a)
  local zset, gone = find(a[1], 'zset'), 0
  if not zset then
    return 0
  end
  for i = 2, #a do
    if take_out(zset, a[i]) then
      gone = gone + 1
    end
  end
  if zset.size == 0 then
    keys[a[1]] = nil
  end
  return gone
end

function commands.ZSCORE(a)
  local zset = find(a[1], 'zset')
  local score = zset and zset.scores[a[2]]
  return score and write_number(score) or false
end

function commands.ZMSCORE(a)
  local found = {}
  for i = 2, #a do
    found[i - 1] = commands.ZSCORE({ a[1], a[i] })
  end
  return found
end

function commands.ZCARD(a)
  local zset = find(a[1], 'zset')
  return zset and zset.size or 0
end

local function read_bound(text)
  local open_bound, number = match(text, '^(%(?)(.+)$')
  local score = number == '-inf' and -math.huge or (number == '+inf' or number == 'inf') and math.huge
    or tonumber(number)
  if not score then
    fail('ERR min or max is not a float')
  end
  return score, open_bound == '('
end

local function range_by_score(zset, from, to, offset, count, with_scores)
  local found = {}
  local least, is_above = read_bound(from)
  local most, is_below = read_bound(to)
  if not zset then
    return found
  end
  local at = place_of(zset.order, least, '')
  while is_above and zset.order[at] and zset.order[at][1] == least do
    at = at + 1
  end
  at = at + offset
  while count ~= 0 do
    local entry = zset.order[at]
    if not entry or entry[1] > most or is_below and entry[1] == most then
      break
    end
    found[#found + 1] = entry[2]
    if with_scores then
      found[#found + 1] = write_number(entry[1])
    end
    at, count = at + 1, count - 1
  end
  return found
end

local function range_by_rank(zset, from, to, with_scores)
  local found, size = {}, zset and zset.size or 0
  local first, last = need_integer(from), need_integer(to)
  first, last = first < 0 and first + size or first, last < 0 and last + size or last
  for rank = math.max(first, 0), math.min(last, size - 1) do
    local entry = zset.order[rank + 1]
    found[#found + 1] = entry[2]
    if with_scores then
      found[#found + 1] = write_number(entry[1])
    end
  end
  return found
end

-- Whether a member lies behind (1), before (-1) or on a bound of a range of members.
local function compare_to_bound(member, bound)
  if bound == '-' then
    return 1
  elseif bound == '+' then
    return -1
  end
  local sign, text = string.sub(bound, 1, 1), string.sub(bound, 2)
  if sign ~= '[' and sign ~= '(' then
    fail('ERR min or max not valid string range item')
  end
  return member < text and -1 or member > text and 1 or (sign == '[' and 0 or nil)
end

local function range_by_member(zset, from, to, offset, count, is_backwards)
  local found = {}
  if is_backwards then
    from, to = to, from
  end
  local order = zset and zset.order or {}
  for n = 1, #order do
    local entry = order[is_backwards and #order + 1 - n or n]
    local low, high = compare_to_bound(entry[2], from), compare_to_bound(entry[2], to)
    if low and high and low >= 0 and high <= 0 then
      if offset > 0 then
        offset = offset - 1
      elseif count ~= 0 then
        found[#found + 1], count = entry[2], count - 1
      end
    end
  end
  return found
end

local function read_range_options(a, by_score)
  local with_scores, offset, count, by_member, is_backwards = false, 0, -1, false, false
  local i = 4
  while a[i] do
    local word = upper(a[i])
    if word == 'BYSCORE' then
      by_score = true
    elseif word == 'BYLEX' then
      by_member = true
    elseif word == 'REV' then
      is_backwards = true
    elseif word == 'WITHSCORES' then
      with_scores = true
    elseif word == 'LIMIT' and a[i + 2] then
      offset, count = need_integer(a[i + 1]), need_integer(a[i + 2])
      i = i + 2
    else
      fail('ERR syntax error')
    end
    i = i + 1
  end
  return by_score, with_scores, offset, count, by_member, is_backwards
end

function commands.ZRANGE(a)
  local by_score, with_scores, offset, count, by_member, is_backwards = read_range_options(a, false)
  local zset = find(a[1], 'zset')
  if by_member then
    return range_by_member(zset, a[2], a[3], offset, count, is_backwards)
  elseif is_backwards then
    fail('ERR syntax error')
  elseif by_score then
    return range_by_score(zset, a[2], a[3], offset, count, with_scores)
  elseif count ~= -1 then
    fail('ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX')
  end
  return range_by_rank(zset, a[2], a[3], with_scores)
end

function commands.ZRANGEBYSCORE(a)
  local _, with_scores, offset, count = read_range_options(a, true)
  return range_by_score(find(a[1], 'zset'), a[2], a[3], offset, count, with_scores)
end

function commands.ZCOUNT(a)
  return #range_by_score(find(a[1], 'zset'), a[2], a[3], 0, -1, false)
end

-- ---------------------------------------------------------------- streams

local function read_entry_id(text, missing)
  local ms, seq = match(text, '^(%d+)%-?(%d*)$')
  if not ms then
    fail('ERR Invalid stream ID specified as stream command argument')
  end
  return tonumber(ms), seq == '' and missing or tonumber(seq)
end

local function is_before(ms, seq, other_ms, other_seq)
  return ms < other_ms or ms == other_ms and seq < other_seq
end

function commands.XADD(a)
  if #a < 4 or #a % 2 == 1 then
    fail("ERR wrong number of arguments for 'xadd' command")
  end
  local ms, seq = read_entry_id(a[2], 0)
  local stream = find(a[1], 'stream')
  local last = stream and stream.last or { 0, 0 }
  if not is_before(last[1], last[2], ms, seq) then
    fail('ERR The ID specified in XADD is equal or smaller than the target stream top item')
  end
  stream = open(a[1], 'stream')
  local entry = { ms, seq, {} }
  for i = 3, #a do
    entry[3][i - 2] = a[i]
  end
  stream.last, stream.size = { ms, seq }, stream.size + 1
  stream.entries[stream.size] = entry
  return format('%d-%d', ms, seq)
end

function commands.XLEN(a)
  local stream = find(a[1], 'stream')
  return stream and stream.size or 0
end

local function read_stream_bound(text, is_end)
  local open_bound, id = match(text, '^(%(?)(.+)$')
  if id == '-' then
    return 0, 0, false
  elseif id == '+' then
    return math.huge, math.huge, false
  end
  local ms, seq = read_entry_id(id, is_end and math.huge or 0)
  return ms, seq, open_bound == '('
end

local function range_of_stream(a, from, to, is_backwards)
  local from_ms, from_seq, is_above = read_stream_bound(from, false)
  local to_ms, to_seq, is_below = read_stream_bound(to, true)
  local count, found = -1, {}
  if a[4] then
    count = upper(a[4]) == 'COUNT' and need_integer(a[5]) or fail('ERR syntax error')
  end
  local stream = find(a[1], 'stream')
  if not stream then
    return found
  end
  local first, last, step = 1, stream.size, 1
  if is_backwards then
    first, last, step = last, first, -1
  else
    local high = last + 1
    while first < high do
      local middle = floor((first + high) / 2)
      local entry = stream.entries[middle]
      if is_before(entry[1], entry[2], from_ms, from_seq) then
        first = middle + 1
      else
        high = middle
      end
    end
  end
  for i = first, last, step do
    local ms, seq, fields = unpack(stream.entries[i])
    local is_first, is_last = ms == from_ms and seq == from_seq, ms == to_ms and seq == to_seq
    local is_out = is_before(ms, seq, from_ms, from_seq) or is_before(to_ms, to_seq, ms, seq)
      or is_first and is_above or is_last and is_below
    if #found == count then
      break
    elseif not is_out then
      found[#found + 1] = { format('%d-%d', ms, seq), fields }
    end
  end
  return found
end

function commands.XRANGE(a)
  return range_of_stream(a, a[2], a[3], false)
end

function commands.XREVRANGE(a)
  return range_of_stream(a, a[3], a[2], true)
end

-- ---------------------------------------------------------------- the rest

function commands.TIME()
  return { format('%d', floor(now_us / 1000000)), format('%d', now_us % 1000000) }
end

function commands.EXISTS(a)
  local count = 0
  for i = 1, #a do
    count = count + (keys[a[i]] and 1 or 0)
  end
  return count
end

function commands.DEL(a)
  local count = 0
  for i = 1, #a do
    count = count + (keys[a[i]] and 1 or 0)
    keys[a[i]] = nil
  end
  return count
end

function commands.TYPE(a)
  return { ok = keys[a[1]] and keys[a[1]].kind or 'none' }
end

-- All keys in the order of their names; the pattern is left to the caller.
function commands.KEYS()
  local found = {}
  for key in pairs(keys) do
    found[#found + 1] = key
  end
  table.sort(found)
  return found
end

function commands.INFO()
  return '# Server\r\nrun_id:' .. run_id .. '\r\n'
end

function commands.PING()
  return { ok = 'PONG' }
end

for name in ('SET HSET HSETNX HDEL HINCRBY ZADD ZREM XADD DEL'):gmatch('%u+') do
  writers[name] = true
end
local KEYLESS = { TIME = true, KEYS = true, INFO = true }

return {
  commands = commands,
  writers = writers,
  keyless = KEYLESS,
  fail = fail,
  write_number = write_number,
  -- From now on the commands are those of another store.
  work_on = function(chosen, at_us, run)
    keys, now_us, run_id = chosen, at_us, run
  end,
}
