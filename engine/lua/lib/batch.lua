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
  local seq = tonumber(head[2])
  return {
    meta = meta, operations_key = operations, due_key = due, log = log,
    now = read_clock(), epoch = tonumber(head[1]), seq = seq,
    -- The positions, by index: see lib/position.lua.
    index = {}, position_count = 0, keys = {}, locations = {},
    on_hand = {}, held = {}, allocated = {}, unsellable = {}, policy = {},
    changed = {}, is_changed = {}, -- indexes to be written
    first_claim = {}, first_order = {}, more_claims = {}, -- index -> field, its order, { field, order, ... }
    ended = {}, -- index -> field or { field, ... }: claims to be struck out
    remembered = {}, -- operation id -> record, or false where there is none
    operations = {}, -- { id, record, ... }: to be written
    due = {}, -- time -> { kind, id, ... }
    events = {}, event_parts = 0, event_count = 0,
  }
end

-- Loads the records of many operation ids in one call.
local function load_operations(batch, ids)
  if #ids == 0 then
    return
  end
  local records, remembered = redis.call('HMGET', batch.operations_key, unpack_table(ids)), batch.remembered
  for i = 1, #ids do
    remembered[ids[i]] = records[i]
  end
end

local function remember_operation(batch, id, record)
  batch.remembered[id] = record
  local operations = batch.operations
  local n = #operations
  operations[n + 1], operations[n + 2] = id, record
end

-- A position's first new claim of a batch needs no table: most have no second.
-- `seq` is its place in the order of promises.
local function add_claim(batch, i, id, seq)
  local claim = batch.locations[i] .. '\n' .. id
  if not batch.first_claim[i] then
    batch.first_claim[i], batch.first_order[i] = claim, seq
    return
  end
  local claims = batch.more_claims[i]
  if claims then
    local n = #claims
    claims[n + 1], claims[n + 2] = claim, seq
  else
    batch.more_claims[i] = { claim, seq }
  end
end

local function end_claim(batch, i, id)
  local ended, claim = batch.ended[i], batch.locations[i] .. '\n' .. id
  if not ended then
    batch.ended[i] = claim
  elseif type(ended) == 'string' then
    batch.ended[i] = { ended, claim }
  else
    ended[#ended + 1] = claim
  end
end

-- Files an id under the moment at which a sweeper must look at it: 'h' a hold to give back, 'p' a
-- memory to forget. All ids of a batch that share kind and moment make one entry of the index.
local function add_due(batch, kind, at_ms, id)
  local due = batch.due
  local when = kind == 'h' and at_ms or -at_ms
  local ids = due[when]
  if ids then
    ids[#ids + 1] = id
  else
    due[when] = { kind, id }
  end
end

-- Whether holds have lapsed that no sweeper has given back yet: a refusal must not count them.
local function has_overdue(batch)
  if batch.overdue == nil then
    local first = redis.call('ZRANGE', batch.due_key, 0, 0, 'WITHSCORES')
    batch.overdue = first[2] ~= nil and tonumber(first[2]) <= batch.now
  end
  return batch.overdue
end

local function next_sequence(batch)
  local seq = batch.seq + 1
  batch.seq = seq
  return seq
end

-- Adds an event: its kind and its body in parts, which are joined once, when all events are known.
local function add_event(batch, kind, size, first, second, third, fourth, fifth, sixth)
  local events, n = batch.events, batch.event_parts
  events[n + 1], events[n + 2], events[n + 3] = pack('<I4B', size, kind), first, second
  n = n + (second and 3 or 2)
  if third then
    events[n + 1], events[n + 2], events[n + 3], events[n + 4] = third, fourth, fifth, sixth
    n = n + (sixth and 4 or fifth and 3 or fourth and 2 or 1)
  end
  batch.event_parts = n
  batch.event_count = batch.event_count + 1
end

local function mark_changed(batch, i)
  if not batch.is_changed[i] then
    batch.is_changed[i] = true
    batch.changed[#batch.changed + 1] = i
  end
end

local function write_positions(batch)
  local keys, locations, order = batch.keys, batch.locations, batch.first_order
  local changed, first_claim, more_claims = batch.changed, batch.first_claim, batch.more_claims
  for n = 1, #changed do
    local i = changed[n]
    local claim = first_claim[i]
    if not claim then
      redis.call('HSET', keys[i], locations[i], encode_position(batch, i))
    elseif not more_claims[i] then
      redis.call('HSET', keys[i], locations[i], encode_position(batch, i), claim, order[i])
    else
      redis.call('HSET', keys[i], locations[i], encode_position(batch, i), claim, order[i],
        unpack_table(more_claims[i]))
    end
  end
  for i, ended in pairs(batch.ended) do
    if type(ended) == 'string' then
      redis.call('HDEL', keys[i], ended)
    else
      redis.call('HDEL', keys[i], unpack_table(ended))
    end
  end
end

-- Everything that a batch changes, written at once: positions, records, deadlines, events, sequence.
local function write_batch(batch)
  if batch.event_count == 0 then
    return
  end
  -- First what may refuse: a ledger that is ahead of the sequence takes no entry, and then nothing is written.
  local seq = string_format('%d', batch.seq)
  redis.call('XADD', batch.log, batch.epoch .. '-' .. seq, 'e',
    pack('<I6H', batch.now, batch.event_count) .. concat(batch.events))
  redis.call('HSET', batch.meta, 'seq', seq)
  write_positions(batch)
  if #batch.operations > 0 then
    redis.call('HSET', batch.operations_key, unpack_table(batch.operations))
  end
  local entries = {}
  for when, ids in pairs(batch.due) do
    local n = #entries
    entries[n + 1], entries[n + 2] = math_max(when, -when), concat(ids)
  end
  if #entries > 0 then
    -- GT: where one id falls due twice, the later moment counts.
    redis.call('ZADD', batch.due_key, 'GT', unpack_table(entries))
  end
end

-- The answer of a batch: when it was decided, in which epoch, then one answer for each request.
local function begin_answer(batch)
  return { batch.now, batch.epoch }
end
