-- Records facts: goods that came, went or were found to differ. A fact is never refused for lack of
-- stock; where it takes away what was promised, the answer names the promises it broke.
--@verb movement
--@flags
--@include builtins state clock position record batch
--@key meta inv:{p}:meta hash rw
--@key operations inv:{p}:ops hash rw
--@key due inv:{p}:due zset rw
--@key log inv:{p}:log stream w
--@key locations inv:{p}:locations hash r
--@key stock... inv:{p}:sku:<sku> hash rw: for each request
--@key stocked... inv:{p}:at:<location> set w: for each request, after its stock
--@arg retention_ms how long an operation id is remembered
--@arg request... id(12) fingerprint(8) quantity(i7, signed) location(1 + n) sku(2 + n), then what only the
--  caller reads: kind, reason, reference, when it occurred
--@answer replayed [word, result]
--@answer idempotency_mismatch [word]
--@answer location_not_found [word, seq]
--@answer quantity_out_of_range [word, seq, on_hand]
--@answer recorded string: result: seq(I7) on_hand(i7) available(i7), then the newest uncovered promises, 100 at most, of
--  { reservation(12) quantity(I6) }
--@event movement id(12) result size(I4) result quantity(i7) location sku rest

local LIMIT_ON_HAND = 1e15
local MAX_NAMED = 100 -- promises that a fact names as broken
local new_places -- key -> the directory of its SKU with the places that this call adds
local stocked -- { key, sku } of each position that this call makes
local known_locations -- location -> whether it exists
local MOVEMENT_REST_AT = 21 -- of a request: quantity, location, sku and the caller's part

local claims_of -- place -> its open claims, read once a call

-- How many units of the position a reservation still claims.
local function open_units(id, sku, location)
  local raw = redis.call('HGET', operations_key, id)
  if not raw then
    return 0
  end
  local header = decode_header(raw)
  local body_at = HEADER_SIZE + header.progress * PROGRESS_SIZE + 1
  local slots, quantities, places = decode_plan(raw, body_at)
  local skus = decode_skus(raw, body_at)
  local units = decode_progress(raw, header, quantities)
  for i = 1, #places do
    if places[i] == location and skus[slots[i] + 1] == sku then
      return units.held[i] + units.committed[i]
    end
  end
  return 0
end

-- The newest open claims on a position, newest first, each { id, order, units }. Cost: all open claims of
-- the SKU, and a record for each claim that is named; once a call.
local function list_claims(place, sku)
  local claims = claims_of[place]
  if claims then
    return claims
  end
  claims = {}
  local fields, prefix = redis.call('HGETALL', key_of[place]), place_of[place] .. '\n'
  for i = 1, #fields, 2 do
    if string_sub(fields[i], 1, #prefix) == prefix then
      claims[#claims + 1] = { string_sub(fields[i], #prefix + 1), tonumber(fields[i + 1]) }
    end
  end
  sort(claims, function(a, b)
    return a[2] > b[2]
  end)
  for i = 1, math_min(#claims, MAX_NAMED) do
    claims[i][3] = open_units(claims[i][1], sku, place_of[place])
  end
  claims_of[place] = claims
  return claims
end

-- The newest promises that `short` units are missing for; at the most MAX_NAMED of them.
local function name_uncovered(place, sku, short)
  local parts = {}
  local claims = short > 0 and list_claims(place, sku) or {}
  for i = 1, math_min(#claims, MAX_NAMED) do
    local quantity = math_min(short, claims[i][3])
    if quantity > 0 then
      parts[#parts + 1] = claims[i][1] .. pack('<I6', quantity)
      short = short - quantity
    end
  end
  return concat(parts)
end

-- The position of a fact; made if this is the first that the place sees of the SKU.
local function find_or_make_position(key, location)
  local place = load_position(key, location)
  if place then
    return place, false
  end
  place = keep_position(key, location, pack(NARROW, 0, 0, 0, 0))
  index_of[key .. '\n' .. location] = place
  local places = new_places[key] or redis.call('HGET', key, '') or ''
  new_places[key] = places .. pack('<B', #location) .. location
  return place, true
end

local function is_location(locations, location)
  if known_locations[location] == nil then
    known_locations[location] = redis.call('HEXISTS', locations, location) == 1
  end
  return known_locations[location]
end

local function decide_movement(keys, at, request, retention_ms)
  local id, fingerprint, quantity, location, sku = unpack_struct('<c12c8i7Bc0Hc0', request)
  local prior = remembered[id]
  if prior then
    if string_byte(prior) == KIND_MOVEMENT and string_sub(prior, 2, 9) == fingerprint then
      return { 'replayed', string_sub(prior, 10) }
    end
    return { 'idempotency_mismatch' }
  end
  if not is_location(keys[5], location) then
    return { 'location_not_found', last_seq }
  end
  local key = keys[at]
  local found = load_position(key, location)
  local on_hand = (found and hand_of[found] or 0) + quantity
  if on_hand > LIMIT_ON_HAND or on_hand < -LIMIT_ON_HAND then
    return { 'quantity_out_of_range', last_seq, on_hand - quantity }
  end
  local place, is_new = find_or_make_position(key, location)
  if is_new then
    stocked[#stocked + 1] = { keys[at + 1], sku }
  end
  hand_of[place] = on_hand
  mark_changed(place)
  local seq = next_sequence()
  local result = pack('<I7i7i7', seq, on_hand, available_units(place))
    .. (quantity < 0 and name_uncovered(place, sku, uncovered_units(place)) or '')
  remember_operation(id, pack('<Bc8', KIND_MOVEMENT, fingerprint) .. result)
  add_due('p', now_ms + retention_ms, id)
  local rest = string_sub(request, MOVEMENT_REST_AT)
  add_event(VERB_MOVEMENT, OPERATION_SIZE + 4 + #result + #rest, id, pack('<I4', #result), result, rest)
  return result
end

local function movement(keys, args)
  begin_batch(keys[1], keys[2], keys[3], keys[4])
  local retention_ms, ids = tonumber(args[1]), {}
  new_places, stocked, known_locations, claims_of = {}, {}, {}, {}
  for i = 2, #args do
    ids[i - 1] = string_sub(args[i], 1, 12)
  end
  load_operations(ids)
  local answer = begin_answer()
  for i = 2, #args do
    answer[i + 1] = decide_movement(keys, 2 + i * 2, args[i], retention_ms)
  end
  --@writes
  write_batch()
  for key, places in pairs(new_places) do
    redis.call('HSET', key, '', places)
  end
  for i = 1, #stocked do
    redis.call('SADD', stocked[i][1], stocked[i][2])
  end
  return answer
end
