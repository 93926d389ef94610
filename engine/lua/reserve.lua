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
--@answer insufficient_stock [word, seq, position index, available, requested, ...]
--@answer held integer: the sequence of the effect
--@event reserve id(12) record

local RESERVE_BODY_AT = 28

-- Why the request cannot be held, or nil when it fits. Fills `places` with the indexes of its positions.
local function find_refusal(batch, keys, base, slots, quantities, locations, places)
  local missing, unknown, short
  for i = 1, #slots do
    local key = keys[base + slots[i]]
    local place = load_position(batch, key, locations[i])
    places[i] = place
    if not place then
      missing = missing or { 'not_stocked', batch.seq }
      missing[#missing + 1] = i - 1
      if redis.call('EXISTS', key) == 0 then
        unknown = unknown or { 'sku_not_found', batch.seq }
        unknown[#unknown + 1] = i - 1
      end
    elseif not fits(batch, place, quantities[i]) then
      short = short or { 'insufficient_stock', batch.seq }
      local n = #short
      short[n + 1], short[n + 2], short[n + 3] = i - 1, available_units(batch, place), quantities[i]
    end
  end
  return unknown or missing or short
end

local function hold_position(batch, place, id, seq, quantity)
  batch.held[place] = batch.held[place] + quantity
  mark_changed(batch, place)
  add_claim(batch, place, id, seq)
end

-- Holds what the request asks for. Returns a refusal, or nothing.
local function hold_positions(batch, keys, base, request, id, seq)
  local count = string_byte(request, RESERVE_BODY_AT + 3)
  if count == 1 then
    -- The usual request: no arrays for one line.
    local slot, quantity, location = unpack_struct('<BI5Bc0', request, RESERVE_BODY_AT + 4)
    local place = load_position(batch, keys[base + slot], location)
    if place and fits(batch, place, quantity) then
      hold_position(batch, place, id, seq, quantity)
      return nil
    end
  end
  local slots, quantities, locations = decode_plan(request, RESERVE_BODY_AT)
  local places = {}
  local refusal = find_refusal(batch, keys, base, slots, quantities, locations, places)
  if refusal then
    return refusal
  end
  for i = 1, #places do
    hold_position(batch, places[i], id, seq, quantities[i])
  end
  return nil
end

local function decide_reserve(batch, keys, base, request)
  local id, fingerprint, ttl_ms, swept = unpack_struct('<c12c8I6B', request)
  local prior = batch.remembered[id]
  if prior then
    if string_sub(prior, FINGERPRINT_AT, FINGERPRINT_AT + 7) == fingerprint
      and string_byte(prior) == KIND_RESERVATION then
      return { 'replayed', prior }
    end
    return { 'idempotency_mismatch' }
  end
  local refusal = hold_positions(batch, keys, base, request, id, batch.seq + 1)
  if refusal then
    if refusal[1] == 'insufficient_stock' and swept == 0 and has_overdue(batch) then
      return { 'overdue' }
    end
    return refusal
  end
  local seq = next_sequence(batch)
  local deadline_ms = batch.now + ttl_ms
  local record = pack('<c11I7I7I6I6c8', batch.new_head, seq, seq, batch.now, deadline_ms, fingerprint)
    .. string_sub(request, RESERVE_BODY_AT)
  remember_operation(batch, id, record)
  add_due(batch, 'h', deadline_ms, id)
  add_event(batch, VERB_RESERVE, OPERATION_SIZE + #record, id, record)
  return seq
end

local function reserve(keys, args)
  local batch = begin_batch(keys[1], keys[2], keys[3], keys[4])
  batch.new_head = string_sub(pack(HEADER_FORMAT, KIND_RESERVATION, STATE_HELD, VERB_NONE, VERB_NONE, 0, 0,
    batch.epoch, batch.epoch, 0, 0, 0, 0, '        '), 1, 11)
  local ids = {}
  for i = 1, #args do
    ids[i] = string_sub(args[i], 1, OPERATION_SIZE)
  end
  load_operations(batch, ids)
  local answer, base = begin_answer(batch), 5
  for i = 1, #args do
    answer[i + 2] = decide_reserve(batch, keys, base, args[i])
    base = base + count_slots(args[i], RESERVE_BODY_AT)
  end
  --@writes
  write_batch(batch)
  return answer
end
