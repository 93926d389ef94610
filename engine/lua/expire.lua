-- Gives back holds whose deadline has passed.
--@verb expire
--@flags allow-oom
--@include builtins state clock position record batch resolve
--@key meta inv:{p}:meta hash rw
--@key operations inv:{p}:ops hash rw
--@key due inv:{p}:due zset rw
--@key log inv:{p}:log stream w
--@key stock... inv:{p}:sku:<sku> hash rw: for each hold its SKUs in slot order
--@arg retention_ms how long a finished reservation is remembered
--@arg request... count(H) of { id(12) revision(H) keys(B) }, then the entry of the index that held them
--@answer stale [word]: the lines of a hold have changed; list what is overdue again
--@answer expired integer: how many holds were given back
--@event expire id(12) operation(12) plan head deltas

local EXPIRE_ITEM_SIZE = 15

-- The holds of one entry that are still held and due, each once; or the answer `stale`.
local function find_lapsed(request)
  local lapsed, base, seen = {}, 0, {}
  for i = 1, unpack_struct('<H', request) do
    local id, revision, slots = unpack_struct('<c12HB', request, 3 + (i - 1) * EXPIRE_ITEM_SIZE)
    local raw = remembered[id]
    local header = raw and string_byte(raw) == KIND_RESERVATION and decode_header(raw)
    if header and not seen[id] and header.state == STATE_HELD and header.deadline_ms <= now_ms then
      local reservation = open_reservation(id, revision)
      if not reservation then
        return nil, { 'stale' }
      end
      seen[id] = true
      lapsed[#lapsed + 1] = { reservation, base }
    end
    base = base + slots
  end
  return lapsed
end

local function expire_hold(keys, base, reservation, request)
  local units = reservation.units
  for i = 1, #reservation.quantities do
    local quantity = units.held[i]
    if quantity > 0 then
      shift_units(units, 'held', i, -quantity)
      change_counters(keys, base, reservation, i, -quantity, 0, 0)
    end
  end
  close_step(reservation, VERB_EXPIRE, request)
end

-- Gives back the lapsed holds of one entry: how many there were, or `stale`.
local function expire_entry(keys, base, entry, request)
  local lapsed, refusal = find_lapsed(entry)
  if refusal then
    return refusal
  end
  for i = 1, #lapsed do
    local reservation, offset = lapsed[i][1], lapsed[i][2]
    request.id, request.revision = reservation.id, reservation.header.revision
    if not move_whole(keys, base + offset, request, VERB_EXPIRE, STATE_HELD, STATE_EXPIRED, -1, 0, 0) then
      expire_hold(keys, base + offset, reservation, request)
    end
  end
  return #lapsed
end

local function expire(keys, args)
  begin_batch(keys[1], keys[2], keys[3], keys[4])
  local ids, entries = {}, {}
  local request = { retention_ms = tonumber(args[1]), operation = NO_OPERATION, fingerprint = '' }
  for i = 2, #args do
    local count = unpack_struct('<H', args[i])
    for j = 1, count do
      ids[#ids + 1] = unpack_struct('<c12', args[i], 3 + (j - 1) * EXPIRE_ITEM_SIZE)
    end
    entries[i - 1] = string_sub(args[i], 3 + count * EXPIRE_ITEM_SIZE)
  end
  load_operations(ids)
  local answer, base, finished, due = begin_answer(), 5, {}, find_due(entries)
  for i = 2, #args do
    answer[i + 1] = expire_entry(keys, base, args[i], request)
    if due[i - 1] and type(answer[i + 1]) == 'number' then
      finished[#finished + 1] = entries[i - 1]
    end
    for j = 1, unpack_struct('<H', args[i]) do
      base = base + string_byte(args[i], 2 + j * EXPIRE_ITEM_SIZE)
    end
  end
  --@writes
  write_batch()
  if #finished > 0 then
    redis.call('ZREM', keys[3], unpack_table(finished))
  end
  return answer
end
