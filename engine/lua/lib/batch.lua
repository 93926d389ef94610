-- One script call carries many independent requests. A batch reads through a working copy, so that
-- each request sees what those before it did; nothing is written until all are decided, and then every
-- position is written once. Refused requests leave the working copy untouched.
local function begin_batch(meta, operations, due, log)
  if not pack then
    bind_builtins()
  end
  local head = redis.call('HMGET', meta, 'epoch', 'seq')
  if not head[1] then
    error({ err = 'NODATASET this server holds no Bincard data set' })
  end
  reset_state()
  meta_key, operations_key, due_key, log_key = meta, operations, due, log
  now_ms, epoch_now, last_seq = read_clock(), tonumber(head[1]), tonumber(head[2])
end

-- Loads the records of many operation ids in one call.
local function load_operations(ids)
  if #ids == 0 then
    return
  end
  local records = redis.call('HMGET', operations_key, unpack_table(ids))
  for i = 1, #ids do
    remembered[ids[i]] = records[i]
  end
end

local function remember_operation(id, record)
  remembered[id] = record
  local n = #written
  written[n + 1], written[n + 2] = id, record
end

-- A position's first new claim of a call needs no table: most have no second. `seq` is its place in the
-- order of promises.
local function add_claim(i, id, seq)
  local claim = place_of[i] .. '\n' .. id
  if not first_claim[i] then
    first_claim[i], first_order[i] = claim, seq
    return
  end
  local claims = more_claims[i]
  if claims then
    local n = #claims
    claims[n + 1], claims[n + 2] = claim, seq
  else
    more_claims[i] = { claim, seq }
  end
end

local function end_claim(i, id)
  local ended, claim = ended_claims[i], place_of[i] .. '\n' .. id
  if not ended then
    ended_claims[i] = claim
  elseif type(ended) == 'string' then
    ended_claims[i] = { ended, claim }
  else
    ended[#ended + 1] = claim
  end
end

-- Memories to forget stand in the deadline index behind all holds: whoever looks for lapsed holds never
-- meets them. Their place is their moment and this much more.
local BEHIND_HOLDS = 1125899906842624 -- 2^50 ms

-- Files an id under the moment at which a sweeper must look at it: 'h' a hold to give back, 'p' a
-- memory to forget. All ids of a batch that share kind and moment make one entry of the index.
local function add_due(kind, at_ms, id)
  local when = kind == 'h' and at_ms or at_ms + BEHIND_HOLDS
  local ids = due_ids[when]
  if ids then
    ids[#ids + 1] = id
  else
    due_ids[when] = { kind, id }
  end
end

-- Which of the entries are still in the deadline index and due: one that was moved to a later moment
-- since the sweeper listed it is not its business any more.
local function find_due(entries)
  local scores, due = redis.call('ZMSCORE', due_key, unpack_table(entries)), {}
  for i = 1, #entries do
    local behind = string_sub(entries[i], 1, 1) == 'p' and BEHIND_HOLDS or 0
    due[i] = scores[i] and tonumber(scores[i]) - behind <= now_ms
  end
  return due
end

-- Whether holds have lapsed that no sweeper has given back yet: a refusal must not count them.
local function has_overdue()
  if sees_overdue == nil then
    local first = redis.call('ZRANGE', due_key, 0, 0, 'WITHSCORES')
    sees_overdue = first[2] ~= nil and tonumber(first[2]) <= now_ms
  end
  return sees_overdue
end

local function next_sequence()
  last_seq = last_seq + 1
  return last_seq
end

-- Adds an event: its kind and its body in parts, which are joined once, when all events are known.
local function add_event(kind, size, first, second, third, fourth, fifth, sixth)
  local n = event_parts
  events[n + 1], events[n + 2], events[n + 3] = pack('<I4B', size, kind), first, second
  n = n + (second and 3 or 2)
  if third then
    events[n + 1], events[n + 2], events[n + 3], events[n + 4] = third, fourth, fifth, sixth
    n = n + (sixth and 4 or fifth and 3 or fourth and 2 or 1)
  end
  event_parts = n
  event_count = event_count + 1
end

local function mark_changed(i)
  if not is_changed[i] then
    is_changed[i] = true
    changed[#changed + 1] = i
  end
end

local function write_positions()
  for n = 1, #changed do
    local i = changed[n]
    local claim = first_claim[i]
    if not claim then
      redis.call('HSET', key_of[i], place_of[i], encode_position(i))
    elseif not more_claims[i] then
      redis.call('HSET', key_of[i], place_of[i], encode_position(i), claim, first_order[i])
    else
      redis.call('HSET', key_of[i], place_of[i], encode_position(i), claim, first_order[i],
        unpack_table(more_claims[i]))
    end
  end
  for i, ended in pairs(ended_claims) do
    if type(ended) == 'string' then
      redis.call('HDEL', key_of[i], ended)
    else
      redis.call('HDEL', key_of[i], unpack_table(ended))
    end
  end
end

-- Everything that a batch changes, written at once: positions, records, deadlines, events, sequence.
local function write_batch()
  if event_count == 0 then
    return
  end
  -- First what may refuse: a ledger that is ahead of the sequence takes no entry, and then nothing is written.
  local seq = string_format('%d', last_seq)
  redis.call('XADD', log_key, epoch_now .. '-' .. seq, 'e',
    pack('<I6H', now_ms, event_count) .. concat(events))
  redis.call('HSET', meta_key, 'seq', seq)
  write_positions()
  if #written > 0 then
    redis.call('HSET', operations_key, unpack_table(written))
  end
  local entries = {}
  for when, ids in pairs(due_ids) do
    local n = #entries
    entries[n + 1], entries[n + 2] = when, concat(ids)
  end
  if #entries > 0 then
    -- GT: where one id falls due twice, the later moment counts.
    redis.call('ZADD', due_key, 'GT', unpack_table(entries))
  end
end

-- The answer of a batch: when it was decided, in which epoch, then one answer for each request.
local function begin_answer()
  return { now_ms, epoch_now }
end
