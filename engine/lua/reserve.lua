-- Holds stock for new reservations: all lines of a request or none.
--@verb reserve
--@flags
--@include builtins state clock position record batch
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
local function find_refusal(keys, base, slots, quantities, locations, places)
  local missing, unknown, short
  for i = 1, #slots do
    local key = keys[base + slots[i]]
    local place = load_position(key, locations[i])
    places[i] = place
    if not place then
      missing = missing or { 'not_stocked', last_seq }
      missing[#missing + 1] = i - 1
      if redis.call('EXISTS', key) == 0 then
        unknown = unknown or { 'sku_not_found', last_seq }
        unknown[#unknown + 1] = i - 1
      end
    elseif not fits(place, quantities[i]) then
      short = short or { 'insufficient_stock', last_seq }
      local n = #short
      short[n + 1], short[n + 2], short[n + 3] = i - 1, available_units(place), quantities[i]
    end
  end
  return unknown or missing or short
end

-- Holds all positions of a basket. Returns a refusal, or nothing.
local function hold_positions(keys, base, request, id, swept)
  local slots, quantities, locations = decode_plan(request, RESERVE_BODY_AT)
  local places = {}
  local refusal = find_refusal(keys, base, slots, quantities, locations, places)
  if refusal then
    return refusal[1] == 'insufficient_stock' and swept == 0 and has_overdue() and { 'overdue' } or refusal
  end
  for i = 1, #places do
    local place = places[i]
    held_of[place] = held_of[place] + quantities[i]
    mark_changed(place)
    add_claim(place, id, last_seq + 1)
  end
  return nil
end

-- Holds the position of a basket of one line, which needs no arrays, or returns false: then it is decided
-- as any basket is.
local function hold_one(key, location, quantity, id)
  local place = load_position(key, location)
  if not place or not fits(place, quantity) then
    return false
  end
  held_of[place] = held_of[place] + quantity
  if not is_changed[place] then
    is_changed[place] = true
    changed[#changed + 1] = place
    first_claim[place], first_order[place] = location .. '\n' .. id, last_seq + 1
  else
    add_claim(place, id, last_seq + 1)
  end
  return true
end

local function replay_reserve(prior, fingerprint)
  if string_byte(prior) == KIND_RESERVATION
    and string_sub(prior, FINGERPRINT_AT, FINGERPRINT_AT + 7) == fingerprint then
    return { 'replayed', prior }
  end
  return { 'idempotency_mismatch' }
end

-- Decides a request. Its second value is how many SKUs, and so how many keys, it has.
local function decide_reserve(keys, base, request, new_head)
  local id, fingerprint, ttl_ms, swept, _, skus, count, slot, quantity, location =
    unpack_struct('<c12c8I6BHBBBI5Bc0', request)
  local prior = remembered[id]
  if prior then
    return replay_reserve(prior, fingerprint), skus
  end
  if count > 1 or not hold_one(keys[base + slot], location, quantity, id) then
    local refusal = hold_positions(keys, base, request, id, swept)
    if refusal then
      return refusal, skus
    end
  end
  last_seq = last_seq + 1
  local deadline_ms = now_ms + ttl_ms
  local record = pack('<c11I7I7I6I6c8', new_head, last_seq, last_seq, now_ms, deadline_ms, fingerprint)
    .. string_sub(request, RESERVE_BODY_AT)
  remember_operation(id, record)
  add_due('h', deadline_ms, id)
  add_event(VERB_RESERVE, OPERATION_SIZE + #record, id, record)
  return last_seq, skus
end

local function reserve(keys, args)
  begin_batch(keys[1], keys[2], keys[3], keys[4])
  local ids = {}
  for i = 1, #args do
    ids[i] = string_sub(args[i], 1, OPERATION_SIZE)
  end
  load_operations(ids)
  -- What the heads of all new reservations of this call begin with.
  local new_head = string_sub(pack(HEADER_FORMAT, KIND_RESERVATION, STATE_HELD, VERB_NONE, VERB_NONE, 0, 0,
    epoch_now, epoch_now, 0, 0, 0, 0, '        '), 1, 11)
  local answer, base = begin_answer(), 5
  for i = 1, #args do
    local outcome, skus = decide_reserve(keys, base, args[i], new_head)
    answer[i + 2] = outcome
    base = base + skus
  end
  --@writes
  write_batch()
  return answer
end
