-- What facts have in common: they are never refused for lack of stock, they name the promises that they break, and
-- they are true of the moment at which they occurred, whenever they arrive.
--
-- A count is the truth about on_hand at its moment: movements up to it do not change on_hand any more, those after
-- it stand on top of it. Of each position the newest count is kept: when (6, big-endian), its rank among
-- counts of one moment (12, mostly its id), the units (7). Conditions of unsellable units are kept by name: { name
-- (1 + n), units (7) }. These are sums of facts in any order, and may be below zero; the card's counter is what is
-- above.
local FACT = { LIMIT_ON_HAND = 1e15, MAX_NAMED = 100, COUNTED_SINCE = 1, TOO_OLD = 2, RESULT = '<I5Hi7i7i7B' }
-- Of the call: by position the newest count, the conditions, and what changed; by location whether it exists and how
-- many positions are new there; by position and moment the ids of the history.

local function begin_facts(locations, defaults)
  FACT.defaults = defaults
  FACT.locations, FACT.known, FACT.new_positions, FACT.history = locations, {}, {}, {}
  FACT.counts, FACT.new_counts, FACT.conditions, FACT.new_conditions, FACT.sums = {}, {}, {}, {}, {}
end

local function read_positions(key, names, found)
  for first = 1, #names, 1000 do
    local last = math_min(first + 999, #names)
    local stored = redis.call('HMGET', key, unpack_table(names, first, last))
    for i = first, last do
      found[names[i]] = stored[i - first + 1]
    end
  end
end

-- The answer to an id that is remembered, or nil.
local function replay_fact(id, fingerprint)
  local prior = remembered[id]
  if not prior then
    return nil
  elseif string_byte(prior) == KIND.MOVEMENT and string_sub(prior, 2, 9) == fingerprint then
    return { 'replayed', string_sub(prior, 10) }
  end
  return { 'idempotency_mismatch' }
end

local function is_location(location)
  local known = FACT.known
  if known[location] == nil then
    known[location] = redis.call('HEXISTS', FACT.locations, location) == 1
  end
  return known[location]
end

-- Units promised beyond what is there: above zero only where a fact took stock away.
local function uncovered_units(position)
  local policy = policy_of[position]
  return math_max(0, held_of[position] + allocated_of[position] - (policy and policy[POLICY.PREORDERED] or 0)
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
  while i > 0 and short > 0 and #parts < FACT.MAX_NAMED do
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

-- Whether the history has a fact, whose id may be forgotten.
local function is_in_history(name, occurred_ms, id)
  local from = name .. pack('>I6', occurred_ms)
  local ids = FACT.history[from] or {}
  if not FACT.history[from] then
    local to = '(' .. name .. pack('>I6', occurred_ms + 1)
    local members = redis.call('ZRANGE', key_of.moves, '[' .. from, to, 'BYLEX')
    for i = 1, #members do
      ids[string_sub(members[i], -MOVES.ID_SIZE - MOVES.UNITS_SIZE, -MOVES.UNITS_SIZE - 1)] = true
    end
    FACT.history[from] = ids
  end
  return ids[id]
end

-- The position of a fact that will be recorded.
local function take_position(position, card, place)
  if not position then
    local location = string_sub(place, 2, -2)
    FACT.new_positions[location] = (FACT.new_positions[location] or 0) + 1
    position = make_position(card, place)
    if FACT.defaults then
      DEFAULTS.inherit(FACT.defaults, position, place, field_of[card])
    end
  end
  return position
end

-- What a fact answers: the position as it is, what it did to on_hand, and why it did nothing, if that is so.
local function fact_result(position, seq, effect, ignored)
  return pack(FACT.RESULT, seq, epoch_now, hand_of[position], available_units(position), effect, ignored)
end

-- Writes a fact down: its answer under its id, its place in the history, its event. `text` is the event behind its
-- moment.
local function file_fact(event, fact, result, text)
  local id = fact.id
  remember_operation(id, pack('<Bc8', KIND.MOVEMENT, fact.fingerprint) .. result)
  add_due('p', now_ms + fact.retention_ms, id)
  MOVES.add(fact.sku, fact.place, fact.occurred_ms, last_seq, id, fact.units)
  local body = id .. pack('<I4', #result) .. result .. pack('<I6', fact.occurred_ms) .. text
  add_event(pack('<BI3', event, #body) .. body)
end
