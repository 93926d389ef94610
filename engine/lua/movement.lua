-- Records facts: goods that came, went or were found to differ. A fact is never refused for lack of
-- stock; where it takes away what was promised, the answer names the promises it broke.
--@verb movement
--@flags
--@include builtins state clock card claims record batch parts places
--@key meta inv:{p}:meta hash rw
--@key operations inv:{p}:ops hash rw
--@key due inv:{p}:due zset rw
--@key log inv:{p}:log stream w
--@key stock inv:{p}:stock hash rw
--@key locations inv:{p}:locations hash r
--@key stocked inv:{p}:stocked hash rw
--@arg retention_ms how long an operation id is remembered
--@arg request... id(12) fingerprint(8) quantity(i7, signed) place(1 + n) sku(2 + n), then what only the
--  caller reads: kind, reason, reference, when it occurred
--@answer replayed [word, result, the epoch of its sequence]
--@answer idempotency_mismatch [word]
--@answer location_not_found [word, seq]
--@answer quantity_out_of_range [word, seq, on_hand]
--@answer recorded string: result: seq(I7) on_hand(i7) available(i7), then the newest uncovered promises, 100 at most, of
--  { route(H) reservation(12) quantity(I6) }
--@event movement id(12) result size(I4) result quantity(i7) place sku rest

local LIMIT_ON_HAND = 1e15
local MAX_NAMED = 100 -- promises that a fact names as broken
local MOVEMENT_REST_AT = 21 -- of a request: quantity, place, sku and the caller's part
local known_locations -- location -> whether it exists
local new_positions -- location -> how many this call makes there

-- Units promised beyond what is there: above zero only where a fact took stock away.
local function uncovered_units(position)
  return math_max(0, held_of[position] + allocated_of[position]
    - (hand_of[position] - unsellable_of[position] + backorder_limit(position)))
end

-- How many units of the position a reservation still claims.
local function open_units(id, sku, place)
  local raw = remembered[id]
  if not has_lines(raw) then
    return 0
  end
  local quantities, places, skus = decode_plan(raw)
  local units = decode_progress(raw, decode_head(raw), quantities)
  for i = 1, #places do
    if places[i] == place and skus[i] == sku then
      return units.held[i] + units.committed[i]
    end
  end
  return 0
end

-- The newest promises that `short` units are missing for; at the most MAX_NAMED of them. Cost: all claims of
-- the card, and the record of each promise that is looked at.
local function name_uncovered(position, sku, place, short)
  local parts = {}
  local ids = short > 0 and list_claims(card_of(position)) or {}
  local i = #ids
  while i > 0 and short > 0 and #parts < MAX_NAMED do
    load_operations({ ids[i] })
    local quantity = math_min(short, open_units(ids[i], sku, place))
    if quantity > 0 then
      local raw = remembered[ids[i]]
      local id = string_byte(raw) == KIND.PART and basket_id(ids[i], raw) or ids[i]
      parts[#parts + 1] = string_sub(raw, AT.ROUTE, PLAN_AT - 1) .. id .. pack('<I6', quantity)
      short = short - quantity
    end
    i = i - 1
  end
  return concat(parts)
end

local function is_location(locations, location)
  if known_locations[location] == nil then
    known_locations[location] = redis.call('HEXISTS', locations, location) == 1
  end
  return known_locations[location]
end

local function decide_movement(keys, request, card, retention_ms)
  local id, fingerprint, quantity, place, sku = unpack_struct('<c12c8i7Bc0Hc0', request)
  local prior = remembered[id]
  if prior then
    if string_byte(prior) == KIND.MOVEMENT and string_sub(prior, 2, 9) == fingerprint then
      return { 'replayed', string_sub(prior, 12), (unpack_struct('<H', prior, 10)) }
    end
    return { 'idempotency_mismatch' }
  end
  local location = string_sub(place, 2, -2)
  if not is_location(keys[6], location) then
    return { 'location_not_found', last_seq }
  end
  local position = load_position(card, place)
  local on_hand = (position and hand_of[position] or 0) + quantity
  if on_hand > LIMIT_ON_HAND or on_hand < -LIMIT_ON_HAND then
    return { 'quantity_out_of_range', last_seq, on_hand - quantity }
  end
  if not position then
    position = make_position(card, place)
    new_positions[location] = (new_positions[location] or 0) + 1
  end
  hand_of[position] = on_hand
  mark_changed(position)
  local result = pack('<I7i7i7', next_sequence(), on_hand, available_units(position))
    .. (quantity < 0 and name_uncovered(position, sku, place, uncovered_units(position)) or '')
  remember_operation(id, pack('<Bc8H', KIND.MOVEMENT, fingerprint, epoch_now) .. result)
  add_due('p', now_ms + retention_ms, id)
  local body = id .. pack('<I4', #result) .. result .. string_sub(request, MOVEMENT_REST_AT)
  add_event(pack('<BI3', VERB.MOVEMENT, #body) .. body)
  return result
end

local function movement(keys, args)
  begin_batch(keys[1], keys[2], keys[3], keys[4], keys[5])
  local retention_ms, ids, asked = tonumber(args[1]), {}, {}
  known_locations, new_positions = {}, {}
  for i = 2, #args do
    local id, _, sku = unpack_struct('<c12xxxxxxxxxxxxxxxBc0Hc0', args[i])
    ids[i - 1], asked[i] = id, want_card(sku)
  end
  load_operations(ids)
  read_cards()
  local answer = begin_answer(#args - 1)
  for i = 2, #args do
    answer[i + 2] = decide_movement(keys, args[i], asked[i], retention_ms)
  end
  end_answer(answer)
  --@writes
  write_batch()
  for location, count in pairs(new_positions) do
    redis.call('HINCRBY', keys[7], location, count)
  end
  return answer
end
