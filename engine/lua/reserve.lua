-- Holds stock for new reservations: all lines of a request or none.
--@verb reserve
--@flags
--@include builtins clock position record batch
--@key meta inv:{p}:meta hash rw
--@key operations inv:{p}:ops hash rw
--@key due inv:{p}:due zset rw
--@key log inv:{p}:log stream w
--@key stock... inv:{p}:sku:<sku> hash rw: for each request its SKUs in slot order
--@arg request... id(12) fingerprint(8) ttl_ms(I6) swept(B) body: see lib/record.lua
--@answer replayed [word, record]
--@answer idempotency_mismatch [word]
--@answer sku_not_found [word, seq, position index...]
--@answer not_stocked [word, seq, position index...]
--@answer overdue [word]: refused only because of holds that have lapsed; sweep, then repeat with swept = 1
--@answer insufficient_stock [word, seq, position index, available, ...]
--@answer held integer: the sequence of the effect
--@event reserve id(12) record

-- Why the request cannot be held, or nil when it fits.
local function find_refusal(batch, keys, base, slots, quantities, places)
  local missing, unknown, short
  for i = 1, #slots do
    local key = keys[base + slots[i]]
    local position = load_position(batch, key, places[i])
    if not position then
      missing = missing or { 'not_stocked', batch.seq }
      missing[#missing + 1] = i - 1
      if redis.call('EXISTS', key) == 0 then
        unknown = unknown or { 'sku_not_found', batch.seq }
        unknown[#unknown + 1] = i - 1
      end
    elseif free_units(position) + position[BACKORDER_LIMIT] < quantities[i] then
      short = short or { 'insufficient_stock', batch.seq }
      local n = #short
      short[n + 1], short[n + 2] = i - 1, available_units(position)
    end
  end
  return unknown or missing or short
end

local function hold_positions(batch, keys, base, id, slots, quantities, places)
  local order = string_format('%d', batch.seq)
  for i = 1, #slots do
    local key, place = keys[base + slots[i]], places[i]
    local position = load_position(batch, key, place)
    position[HELD] = position[HELD] + quantities[i]
    change_position(batch, key, place, position)
    add_field(batch, key, place .. '\n' .. id, order)
  end
end

local function decide_reserve(batch, keys, base, request)
  local id, fingerprint, ttl_ms, swept, body_at = unpack_struct('<c12c8I6B', request)
  local slots, quantities, places = decode_plan(request, body_at)
  local prior = batch.remembered[id]
  if prior then
    if string_sub(prior, FINGERPRINT_AT, FINGERPRINT_AT + 7) == fingerprint
      and string_byte(prior) == KIND_RESERVATION then
      return { 'replayed', prior }
    end
    return { 'idempotency_mismatch' }
  end
  local refusal = find_refusal(batch, keys, base, slots, quantities, places)
  if refusal then
    if refusal[1] == 'insufficient_stock' and swept == 0 and has_overdue(batch) then
      return { 'overdue' }
    end
    return refusal
  end
  local seq = next_sequence(batch)
  local deadline_ms = batch.now + ttl_ms
  local record = pack(HEADER_FORMAT, KIND_RESERVATION, STATE_HELD, VERB_NONE, VERB_NONE, 0, 0,
    batch.epoch, batch.epoch, seq, seq, batch.now, deadline_ms, fingerprint) .. string_sub(request, body_at)
  hold_positions(batch, keys, base, id, slots, quantities, places)
  remember_operation(batch, id, record)
  add_due(batch, 'h', deadline_ms, id)
  add_event(batch, VERB_RESERVE, id .. record)
  return seq
end

local function reserve(keys, args)
  local batch = begin_batch(keys[1], keys[2], keys[3], keys[4])
  local ids = {}
  for i = 1, #args do
    ids[i] = string_sub(args[i], 1, 12)
  end
  load_operations(batch, ids)
  local answer, base = begin_answer(batch), 5
  for i = 1, #args do
    answer[i + 2] = decide_reserve(batch, keys, base, args[i])
    base = base + count_slots(args[i], 28)
  end
  --@writes
  write_batch(batch)
  return answer
end
