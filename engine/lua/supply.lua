-- Sets how many units of a SKU are expected at a place from one source, and when. A fact: never refused for stock.
--@verb supply
--@flags
--@include builtins state clock card claims record batch places defaults
--@key meta inv:{p}:meta hash rw
--@key operations inv:{p}:ops hash rw
--@key due inv:{p}:due zset rw
--@key log inv:{p}:log stream w
--@key stock inv:{p}:stock hash rw
--@key locations inv:{p}:locations hash r
--@key stocked inv:{p}:stocked hash rw
--@key inbound inv:{p}:inbound hash rw
--@key defaults inv:{p}:defaults hash r
--@arg retention_ms how long an operation id is remembered
--@arg request... id(12) fingerprint(8) source(12) open(I6) received(I6) expected_ms(I6) kind(B) place(1 + n) sku(2 + n):
--  the units that are still to come, and those that came with this step
--@answer replayed [word, result]
--@answer idempotency_mismatch [word]
--@answer location_not_found [word, seq]
--@answer quantity_out_of_range [word, seq, inbound]
--@answer expected string: result: seq(I5) epoch(H) inbound(i7) available(i7)
--@event supply id(12) result(21), then the request from source on

-- A field of the inbound hash, place and SKU, has the supplies of a position, the earliest first:
-- source(12) open(I6) expected_ms(I6) kind(B).
local LIMIT_INBOUND = 1e15
local SUPPLY_FORMAT, SUPPLY_SIZE = '<c12I6I6B', 25
local SUPPLY_REST_AT, PLACE_AT = 21, 52 -- of a request: from the source on, and from the place on
local supplies_of -- field -> packed supplies
local new_positions -- location -> how many this call makes there

local function read_supplies(inbound, field)
  if not supplies_of[field] then
    supplies_of[field] = redis.call('HGET', inbound, field) or ''
  end
  return supplies_of[field]
end

-- The supplies with one source's in the place of what it had, and how many units it had.
local function replace_supply(packed, source, open, expected_ms, kind)
  local parts, before, own = {}, 0, open > 0 and pack(SUPPLY_FORMAT, source, open, expected_ms, kind)
  for at = 1, #packed, SUPPLY_SIZE do
    local other, units, when = unpack_struct(SUPPLY_FORMAT, packed, at)
    if other == source then
      before = units
    else
      if own and (expected_ms < when or expected_ms == when and source < other) then
        parts[#parts + 1], own = own, false
      end
      parts[#parts + 1] = string_sub(packed, at, at + SUPPLY_SIZE - 1)
    end
  end
  parts[#parts + 1] = own or nil
  return concat(parts), before
end

local function decide_supply(keys, request, card, retention_ms)
  local id, fingerprint, source, open, _, expected_ms, kind, place, sku =
    unpack_struct('<c12c8c12I6I6I6BBc0Hc0', request)
  local prior = remembered[id]
  if prior then
    if string_byte(prior) == KIND.MOVEMENT and string_sub(prior, 2, 9) == fingerprint then
      return { 'replayed', string_sub(prior, 10) }
    end
    return { 'idempotency_mismatch' }
  end
  local location, field = string_sub(place, 2, -2), place .. sku
  if redis.call('HEXISTS', keys[6], location) == 0 then
    return { 'location_not_found', last_seq }
  end
  local position = load_position(card, place)
  local policy = position and policy_of[position]
  local inbound = policy and policy[POLICY.INBOUND] or 0
  local supplies, before = replace_supply(read_supplies(keys[8], field), source, open, expected_ms, kind)
  if inbound - before + open > LIMIT_INBOUND then
    return { 'quantity_out_of_range', last_seq, inbound }
  end
  if not position then
    position = make_position(card, place)
    new_positions[location] = (new_positions[location] or 0) + 1
    DEFAULTS.inherit(keys[9], position, place, sku)
  end
  POLICY.add(card_of(position))
  policy, inbound = policy_of[position], inbound - before + open
  policy[POLICY.INBOUND] = inbound
  -- What will not come cannot be promised. What came is given to those who wait by the movement that follows.
  policy[POLICY.PREORDERED] = math_min(policy[POLICY.PREORDERED], inbound)
  mark_changed(position)
  supplies_of[field] = supplies
  local result = pack('<I5Hi7i7', next_sequence(), epoch_now, inbound, available_units(position))
  remember_operation(id, pack('<Bc8', KIND.MOVEMENT, fingerprint) .. result)
  add_due('p', now_ms + retention_ms, id)
  local body = id .. result .. string_sub(request, SUPPLY_REST_AT)
  add_event(pack('<BI3', VERB.SUPPLY, #body) .. body)
  return result
end

local function supply(keys, args)
  begin_batch(keys[1], keys[2], keys[3], keys[4], keys[5])
  local retention_ms, ids, asked = tonumber(args[1]), {}, {}
  supplies_of, new_positions = {}, {}
  for i = 2, #args do
    local _, sku = unpack_struct('<Bc0Hc0', args[i], PLACE_AT)
    ids[i - 1], asked[i] = string_sub(args[i], 1, OPERATION_SIZE), want_card(sku)
  end
  load_operations(ids)
  read_cards()
  local answer = begin_answer(#args - 1)
  for i = 2, #args do
    answer[i + 2] = decide_supply(keys, args[i], asked[i], retention_ms)
  end
  end_answer(answer)
  --@writes
  write_batch()
  for location, count in pairs(new_positions) do
    redis.call('HINCRBY', keys[7], location, count)
  end
  for field, supplies in pairs(supplies_of) do
    if supplies ~= '' then
      redis.call('HSET', keys[8], field, supplies)
    else
      redis.call('HDEL', keys[8], field)
    end
  end
  return answer
end
