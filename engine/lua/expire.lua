-- Gives back holds whose deadline has passed.
--@verb expire
--@flags allow-oom
--@include builtins clock position record batch resolve
--@key meta inv:{p}:meta hash rw
--@key operations inv:{p}:ops hash rw
--@key due inv:{p}:due zset rw
--@key log inv:{p}:log stream w
--@key stock... inv:{p}:sku:<sku> hash rw: for each hold its SKUs in slot order
--@arg retention_ms how long a finished reservation is remembered
--@arg request... count(H) of { id(12) revision(H) keys(B) }, then the entry of the index that held them
--@answer stale [word]: the lines of a hold have changed; list what is overdue again
--@answer expired integer: how many holds were given back
--@event expire id(12) operation(12) head deltas plan

local EXPIRE_ITEM_SIZE = 15

-- The holds of one entry that are still held and due; or the answer `stale`.
local function find_lapsed(batch, request)
  local lapsed, base = {}, 0
  for i = 1, unpack_struct('<H', request) do
    local id, revision, slots = unpack_struct('<c12HB', request, 3 + (i - 1) * EXPIRE_ITEM_SIZE)
    local raw = batch.remembered[id]
    local header = raw and string_byte(raw) == KIND_RESERVATION and decode_header(raw)
    if header and header.state == STATE_HELD and header.deadline_ms <= batch.now then
      local reservation = open_reservation(batch, id, revision)
      if not reservation then
        return nil, { 'stale' }
      end
      lapsed[#lapsed + 1] = { reservation, base }
    end
    base = base + slots
  end
  return lapsed
end

local function expire_hold(batch, keys, base, reservation, retention_ms)
  local units = reservation.units
  for i = 1, #reservation.quantities do
    local quantity = units.held[i]
    if quantity > 0 then
      shift_units(units, 'held', i, -quantity)
      change_counters(batch, keys, base, reservation, i, -quantity, 0, 0)
    end
  end
  close_step(batch, reservation, VERB_EXPIRE, NO_OPERATION, '', retention_ms)
end

local function expire(keys, args)
  local batch, retention_ms, ids = begin_batch(keys[1], keys[2], keys[3], keys[4]), tonumber(args[1]), {}
  for i = 2, #args do
    for j = 1, unpack_struct('<H', args[i]) do
      ids[#ids + 1] = unpack_struct('<c12', args[i], 3 + (j - 1) * EXPIRE_ITEM_SIZE)
    end
  end
  load_operations(batch, ids)
  local answer, base, finished = begin_answer(batch), 5, {}
  for i = 2, #args do
    local lapsed, refusal = find_lapsed(batch, args[i])
    answer[i + 1] = refusal or #lapsed
    for j = 1, lapsed and #lapsed or 0 do
      expire_hold(batch, keys, base + lapsed[j][2], lapsed[j][1], retention_ms)
    end
    local count = unpack_struct('<H', args[i])
    if lapsed then
      finished[#finished + 1] = string_sub(args[i], 3 + count * EXPIRE_ITEM_SIZE)
    end
    for j = 1, count do
      base = base + string_byte(args[i], 2 + j * EXPIRE_ITEM_SIZE)
    end
  end
  --@writes
  write_batch(batch)
  if #finished > 0 then
    redis.call('ZREM', keys[3], unpack_table(finished))
  end
  return answer
end
