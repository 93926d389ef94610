-- The terms of a reservation: what scripts know of how its units were chosen. They stand before what only the
-- caller reads, behind the version that a part follows, where a channel sells by rules or a pool chose the places:
--   mark (1) | size (1) | channel (1 + n) | pools (1 + n), one a line | bound (1 + n): indexes of the positions that
--   the caller named, so that they stay where they are
-- Without a mark there are none. Units of a hold float while pools chose their place: a later request that
-- would be refused otherwise may move them to another location of those pools.
--
-- A fence keeps units of a position for one channel. The field `place SKU` of the stock hash has those of a
-- position: channel (1 + n) | remaining (6) | used (6) | spill (1). Remaining units are withheld from everybody
-- else; used ones are open units of that channel. What comes back fills the fence first; what leaves is consumed.
local TERMS = { MARK = 193 }

-- Where the terms of a record, or of a request that will be one, stand; nil where it has none.
function TERMS.at(raw)
  local at = PLAN_AT + 2 + unpack_struct('<H', raw, PLAN_AT) + (string_byte(raw) == KIND.PART and 9 or 0)
  return string_byte(raw, at) == TERMS.MARK and at or nil
end

function TERMS.read(raw)
  local at = TERMS.at(raw)
  if not at then
    return nil
  end
  local channel, pools, bound = unpack_struct('<Bc0Bc0Bc0', raw, at + 2)
  return { channel = channel, pools = pools, bound = bound, raw = raw }
end

-- Packs terms as a record has them.
function TERMS.pack(channel, pools, bound)
  local body = pack('<BBB', #channel, #pools, #bound)
  body = string_sub(body, 1, 1) .. channel .. string_sub(body, 2, 2) .. pools .. string_sub(body, 3, 3) .. bound
  return pack('<BB', TERMS.MARK, #body) .. body
end

-- A record's new part for the caller, or the version that a part follows from now on, with the terms it had.
function TERMS.keep(raw, rest)
  local at = TERMS.at(raw)
  local terms = at and string_sub(raw, at, at + 1 + string_byte(raw, at + 1)) or ''
  return string_byte(raw) == KIND.PART and rest .. terms or terms .. rest
end

function TERMS.floats(terms, index)
  return terms.pools ~= '' and not string_find(terms.bound, pack('B', index - 1), 1, true)
end

-- The fences of a position, in the order in which they were made.
function TERMS.fences(place, sku)
  local field = place .. sku
  RUN.fences = RUN.fences or {}
  local fences = RUN.fences[field]
  if not fences then
    local text = redis.call('HGET', key_of.stock, field) or ''
    local at = 1
    fences = {}
    while at <= #text do
      local fence = {}
      fence.channel, fence.remaining, fence.used, fence.spill, at = unpack_struct('<Bc0I6I6B', text, at)
      fences[#fences + 1] = fence
    end
    RUN.fences[field] = fences
  end
  return fences
end

-- The fence of a channel at a position, or nil.
function TERMS.fence(position, place, sku, channel)
  local policy = policy_of[position]
  if channel == '' or not policy or policy[POLICY.FLAGS] % 2 ~= POLICY.FENCED_HERE then
    return nil
  end
  RUN.met_fence = true
  local fences = TERMS.fences(place, sku)
  for i = 1, #fences do
    if fences[i].channel == channel then
      return fences[i]
    end
  end
  return nil
end

-- Place and SKU of a record's position of that index.
function TERMS.position(raw, index)
  local cursor, place, sku, _ = POSITIONS_AT, nil, nil, nil
  for _ = 1, index do
    _, place, sku, cursor = unpack_struct(POSITION_FORMAT, raw, cursor)
  end
  return place, sku
end

-- How many units a channel may take at a position: of its fence, and beyond it of what is for all unless the fence
-- says otherwise; never more than there are. Fences may cover more than there is, so that for all there is nothing.
function TERMS.room(position, place, sku, channel)
  local free = free_units(position) + backorder_limit(position)
  local fence = TERMS.fence(position, place, sku, channel)
  if not fence then
    return free
  end
  local common = fence.spill == 1 and math_max(0, free) or 0
  return math_min(free + policy_of[position][POLICY.FENCED], fence.remaining + common)
end

-- The same for the reservation of a record, at its position of that index.
function TERMS.room_for(raw, index, position)
  local terms = policy_of[position] and TERMS.read(raw)
  if not terms then
    return free_units(position) + backorder_limit(position)
  end
  local place, sku = TERMS.position(raw, index)
  return TERMS.room(position, place, sku, terms.channel)
end

-- Puts units of a fence to another use: `remaining` and `used` are what is added.
function TERMS.shift(position, place, sku, fence, remaining, used)
  fence.remaining, fence.used = fence.remaining + remaining, fence.used + used
  local policy = policy_of[position]
  policy[POLICY.FENCED] = policy[POLICY.FENCED] + remaining
  TERMS.mark(place, sku)
  mark_changed(position)
end

-- Notes that the fences of a position are to be written.
function TERMS.mark(place, sku)
  RUN.changed_fences = RUN.changed_fences or {}
  RUN.changed_fences[place .. sku] = true
end

-- Fills or uses fence and floating units, after the counters of a position changed by so much, and were marked as
-- changed, for a reservation with such terms.
function TERMS.follow(terms, index, position, place, sku, held, allocated, on_hand)
  local fence, opened = TERMS.fence(position, place, sku, terms.channel), held + allocated
  if fence and opened > 0 then
    local taken = math_min(opened, fence.remaining)
    TERMS.shift(position, place, sku, fence, -taken, taken)
  elseif fence and opened < 0 then
    local back = math_min(-opened, fence.used)
    -- Goods that left were the fence's first: what is left of the fence is less by them.
    TERMS.shift(position, place, sku, fence, math_max(0, back + math_min(0, on_hand)), -back)
  elseif fence and on_hand < 0 then
    -- Taken anew and gone at once: they never were open.
    TERMS.shift(position, place, sku, fence, -math_min(-on_hand, fence.remaining), 0)
  end
  if held ~= 0 and TERMS.floats(terms, index) then
    local policy = policy_of[position]
    policy[POLICY.FLOATING] = policy[POLICY.FLOATING] + held
    TERMS.count_floating(terms, position, place, sku, held)
  end
end

-- Where other units of a SKU are bound that the reservation has: places, one behind the other.
function TERMS.bound_at(terms, sku)
  if not terms.bound_at then
    local bound_at = {}
    for i = 1, #terms.bound do
      local place, other = TERMS.position(terms.raw, string_byte(terms.bound, i) + 1)
      bound_at[other] = (bound_at[other] or '') .. place
    end
    terms.bound_at = bound_at
  end
  return terms.bound_at[sku] or ''
end

-- Who floats together: a channel, its pools, and where the reservation has bound units of the SKU. Those that float do
-- not join them: a reservation has one line at a position.
function TERMS.group_of(terms, sku)
  return terms.channel .. '\n' .. terms.pools .. '\n' .. TERMS.bound_at(terms, sku) .. '\n'
end

-- Keeps the counts of what floats (floating.lua) up to date, where a card has been counted.
function TERMS.count_floating(terms, position, place, sku, held)
  local known = RUN.floating[key_of.meta]
  local counted = known and known.cards[field_of[card_of(position)]]
  if counted then
    known.seq = nil -- until write_batch: a call that fails leaves no counts
    local groups, name = counted[place] or {}, TERMS.group_of(terms, sku)
    counted[place] = groups
    groups[name] = (groups[name] or 0) + held
  end
end

-- The same for a position of a record: the one of that index.
function TERMS.follow_record(raw, index, position, held, allocated, on_hand)
  local terms = TERMS.read(raw)
  if terms then
    local place, sku = TERMS.position(raw, index)
    TERMS.follow(terms, index, position, place, sku, held, allocated, on_hand)
  end
end

-- A hold comes from another data set, whose fences tell what they cover of it.
function TERMS.carry(raw, index, position, held)
  local terms = TERMS.read(raw)
  if terms and held > 0 and TERMS.floats(terms, index) then
    POLICY.add(card_of(position))
    local policy = policy_of[position]
    policy[POLICY.FLOATING] = policy[POLICY.FLOATING] + held
    RUN.floating[key_of.meta] = nil
  end
end
