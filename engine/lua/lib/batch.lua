-- One script call carries many independent requests. A batch reads through a working copy, so that
-- each request sees what those before it did; nothing is written until all are decided, and then every
-- key is written once. Refused requests leave the working copy untouched.
local function begin_batch(meta, operations, due, log)
  if not pack then
    bind_builtins()
  end
  local head = redis.call('HMGET', meta, 'epoch', 'seq')
  if not head[1] then
    error({ err = 'NODATASET this server holds no Bincard data set' })
  end
  return {
    meta = meta, operations_key = operations, due_key = due, log = log,
    now = read_clock(),
    epoch = tonumber(head[1]), seq = tonumber(head[2]),
    positions = {}, -- key -> location -> position, or false where there is none
    changed = {}, -- key -> location -> position: to be written
    fields = {}, -- key -> { field, value, ... }: further fields to be written
    removed = {}, -- key -> { field, ... }
    remembered = {}, -- operation id -> record, or false where there is none
    operations = {}, -- { id, record, ... }: to be written
    due = {}, -- time -> kind -> { id, ... }
    events = {},
  }
end

local function load_position(batch, key, location)
  local places = batch.positions[key]
  if not places then
    places = {}
    batch.positions[key] = places
  end
  local position = places[location]
  if position == nil then
    local packed = redis.call('HGET', key, location)
    position = packed and decode_position(packed)
    places[location] = position
  end
  return position
end

local function change_position(batch, key, location, position)
  local places = batch.changed[key]
  if not places then
    places = {}
    batch.changed[key] = places
  end
  places[location] = position
end

local function add_field(batch, key, field, value)
  local fields = batch.fields[key]
  if not fields then
    fields = {}
    batch.fields[key] = fields
  end
  local n = #fields
  fields[n + 1], fields[n + 2] = field, value
end

local function remove_field(batch, key, field)
  local fields = batch.removed[key]
  if not fields then
    fields = {}
    batch.removed[key] = fields
  end
  fields[#fields + 1] = field
end

-- Loads the records of many operation ids in one call.
local function load_operations(batch, ids)
  if #ids == 0 then
    return
  end
  local records = redis.call('HMGET', batch.operations_key, unpack_table(ids))
  for i = 1, #ids do
    batch.remembered[ids[i]] = records[i]
  end
end

local function remember_operation(batch, id, record)
  batch.remembered[id] = record
  local n = #batch.operations
  batch.operations[n + 1], batch.operations[n + 2] = id, record
end

-- Files an id under the moment at which a sweeper must look at it: 'h' a hold to give back, 'p' a
-- memory to forget. All ids of a batch that share kind and moment make one entry of the index.
local function add_due(batch, kind, at_ms, id)
  local kinds = batch.due[at_ms]
  if not kinds then
    kinds = {}
    batch.due[at_ms] = kinds
  end
  local ids = kinds[kind]
  if ids then
    ids[#ids + 1] = id
  else
    kinds[kind] = { kind, id }
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
  batch.seq = batch.seq + 1
  return batch.seq
end

local function add_event(batch, kind, body)
  batch.events[#batch.events + 1] = pack('<I4B', #body, kind) .. body
end

-- Everything that a batch changes, written at once: positions, records, deadlines, events, sequence.
local function write_batch(batch)
  local changes = batch.fields
  for key, places in pairs(batch.changed) do
    local fields = changes[key]
    if not fields then
      fields = {}
      changes[key] = fields
    end
    local n = #fields
    for location, position in pairs(places) do
      fields[n + 1], fields[n + 2] = location, encode_position(position)
      n = n + 2
    end
  end
  for key, fields in pairs(changes) do
    redis.call('HSET', key, unpack_table(fields))
  end
  for key, fields in pairs(batch.removed) do
    redis.call('HDEL', key, unpack_table(fields))
  end
  if #batch.operations > 0 then
    redis.call('HSET', batch.operations_key, unpack_table(batch.operations))
  end
  local entries = {}
  for at_ms, kinds in pairs(batch.due) do
    for _, ids in pairs(kinds) do
      local n = #entries
      entries[n + 1], entries[n + 2] = at_ms, concat(ids)
    end
  end
  if #entries > 0 then
    redis.call('ZADD', batch.due_key, unpack_table(entries))
  end
  local count = #batch.events
  if count > 0 then
    redis.call('XADD', batch.log, string_format('%d-%d', batch.epoch, batch.seq), 'e',
      pack('<I6H', batch.now, count) .. concat(batch.events))
    redis.call('HSET', batch.meta, 'seq', string_format('%d', batch.seq))
  end
end

-- The answer of a batch: when it was decided, in which epoch, then one answer for each request.
local function begin_answer(batch)
  return { batch.now, batch.epoch }
end
