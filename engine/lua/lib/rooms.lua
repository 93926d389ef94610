-- How much there is for whom: what the settings of a partition say of pools and channels, how many units a channel
-- may take at a position, and taking them for trial. A request is decided on the working copy: its units are taken
-- from there, noted in a list, and put back if it is refused.
local ROOMS = {}

-- ---------------------------------------------------------------- settings

function ROOMS.read_names(text)
  local names, cursor = {}, 3
  for i = 1, unpack_struct('<H', text) do
    names[i], cursor = unpack_struct('<Hc0', text, cursor)
  end
  return names, cursor
end

function ROOMS.read_all_settings(key)
  local found, flat = {}, redis.call('HGETALL', key)
  for i = 1, #flat, 2 do
    local names, cursor = ROOMS.read_names(flat[i + 1])
    local setting = cmsgpack.unpack(string_sub(flat[i + 1], cursor))
    setting.names = names
    found[flat[i]] = setting
  end
  return found
end

-- The settings of the partition: read anew when their number has changed.
function ROOMS.load_settings(locations, pools, channels)
  local number = redis.call('HGET', key_of.meta, 'settings') or '0'
  local known = RUN.settings[key_of.meta]
  if not known or known.number ~= number or known.epoch ~= epoch_now then
    known = {
      number = number, epoch = epoch_now, locations = ROOMS.read_all_settings(locations),
      pools = ROOMS.read_all_settings(pools), channels = ROOMS.read_all_settings(channels),
      unions = {}, shares = {}, orders = {}, kept = 0, refused = {}, refusals = 0,
    }
    for _, pool in pairs(known.pools) do
      for i = 1, #pool.names do
        known.shares[pool.names[i]] = (known.shares[pool.names[i]] or 0) + 1
      end
    end
    RUN.settings[key_of.meta] = known
  end
  return known
end

-- The locations of pools, named one a line, as a set. Pools that are gone have none.
function ROOMS.union_of(settings, pools)
  local found = settings.unions[pools]
  if not found then
    found = {}
    local at = 1
    while at <= #pools do
      local last = string_find(pools, '\n', at, true) or #pools + 1
      local pool = settings.pools[string_sub(pools, at, last - 1)]
      for i = 1, pool and #pool.names or 0 do
        found[pool.names[i]] = true
      end
      at = last + 1
    end
    settings.unions[pools] = found
  end
  return found
end

function ROOMS.rules_of(settings, channel)
  local setting = settings.channels[channel]
  local buffer = setting and type(setting.buffer) == 'table' and setting.buffer or {}
  return { channel = channel, units = tonumber(buffer.units) or 0, percent = tonumber(buffer.percent) or 0 }
end

-- The names of all places that stock a SKU, as its card or its pages have them; none where nobody does.
function ROOMS.names_of(card)
  RUN.names = RUN.names or {}
  local known = RUN.names[card]
  if not known then
    local pages, parts = { card }, {}
    if is_divided(card) then
      for page = 0, CARD.PAGES - 1 do
        pages[page + 1] = want_card(field_of[card] .. '\n' .. page)
      end
      read_cards()
    end
    for i = 1, #pages do
      local text = text_of[pages[i]]
      parts[i] = text and string_sub(text, NAMES_AT, NAMES_AT + unpack_struct('<xxxH', text) - 1) or ''
    end
    known = concat(parts)
    RUN.names[card] = known
  end
  return known
end

function ROOMS.is_open(state, place)
  local location = state.settings.locations[string_sub(place, 2, -2)]
  return location and location.active ~= false
end

-- ---------------------------------------------------------------- room

-- What a channel leaves to others at a position: units, or a share of the goods that are there to be sold.
function ROOMS.buffer_of(position, rules)
  local sellable = math_max(0, hand_of[position] - unsellable_of[position])
  return rules.units + math_floor((sellable * rules.percent + 99) / 100)
end

-- How many units of a position a channel may still take, beyond `limit` of them where back-orders are allowed.
-- Negative where even that is overdrawn.
function ROOMS.free_for(position, place, sku, rules, limit)
  local free = free_units(position) + limit
  local fence = TERMS.fence(position, place, sku, rules.channel)
  if not fence then
    return free - ROOMS.buffer_of(position, rules)
  elseif free < 0 then
    -- Fences cover more than there is: this one as far as it goes.
    return math_min(fence.remaining, free + policy_of[position][POLICY.FENCED])
  elseif fence.spill == 1 then
    return fence.remaining + math_max(0, free - ROOMS.buffer_of(position, rules))
  end
  return fence.remaining
end

-- How many units may be promised of what is inbound at a position. What is missing there comes first; and where a
-- channel leaves units that are there to others, none, as what is promised of inbound goods would take those.
function ROOMS.inbound_room(position, place, sku, rules)
  local policy, room = policy_of[position], free_units(position) + backorder_limit(position)
  if not policy then
    return 0
  elseif room > 0 then
    local fence = TERMS.fence(position, place, sku, rules.channel)
    if ROOMS.buffer_of(position, rules) > 0 or fence and fence.spill == 0 then
      return 0
    end
  end
  return math_max(0, policy[POLICY.INBOUND] - policy[POLICY.PREORDERED] + math_min(0, room))
end

function ROOMS.room(position, place, sku, rules)
  local room = math_max(0, ROOMS.free_for(position, place, sku, rules, backorder_limit(position)))
  return rules.counts_inbound and room + ROOMS.inbound_room(position, place, sku, rules) or room
end

-- How many sets of a group one of its candidates has.
function ROOMS.sets_at(group, place, rules)
  local first = group.members[1]
  if not group.members[2] then
    return math_floor(ROOMS.room(load_position(first.card, place), place, first.sku, rules) / first.units)
  end
  local sets = math.huge
  for i = 1, #group.members do
    local member = group.members[i]
    local room = ROOMS.room(load_position(member.card, place), place, member.sku, rules)
    sets = math_min(sets, math_floor(room / member.units))
  end
  return sets
end

-- ---------------------------------------------------------------- trying

-- Moves units of a position for trial: `quantity` is taken, or given back where it is negative.
function ROOMS.shift_trial(trial, position, place, sku, channel, quantity)
  local fence = TERMS.fence(position, place, sku, channel)
  local change = 0
  if fence then
    change = quantity > 0 and math_min(quantity, fence.remaining) or -math_min(-quantity, fence.used)
    fence.remaining, fence.used = fence.remaining - change, fence.used + change
    policy_of[position][POLICY.FENCED] = policy_of[position][POLICY.FENCED] - change
  end
  held_of[position] = held_of[position] + quantity
  trial[#trial + 1] = { position = position, quantity = quantity, fence = fence, change = change }
end

-- Puts back what was moved for trial after the first `size` moves.
function ROOMS.undo_trial(trial, size)
  for i = #trial, size + 1, -1 do
    local one = trial[i]
    held_of[one.position] = held_of[one.position] - one.quantity
    if one.fence then
      one.fence.remaining, one.fence.used = one.fence.remaining + one.change, one.fence.used - one.change
      local policy = policy_of[one.position]
      policy[POLICY.FENCED] = policy[POLICY.FENCED] + one.change
    end
    trial[i] = nil
  end
end

-- Takes sets of a group at a place.
function ROOMS.take_sets(request, group, place, sets)
  for i = 1, #group.members do
    local member = group.members[i]
    local position, quantity = load_position(member.card, place), sets * member.units
    ROOMS.shift_trial(request.trial, position, place, member.sku, request.rules.channel, quantity)
    local key = place .. member.sku
    local line = request.line_of[key]
    if not line then
      line = { place = place, sku = member.sku, card = member.card, quantity = 0, is_bound = false }
      request.line_of[key] = line
      request.lines[#request.lines + 1] = line
    end
    line.quantity = line.quantity + quantity
    line.is_bound = line.is_bound or group.place ~= '' or #group.members > 1 or member.units > 1
  end
  group.taken[place] = (group.taken[place] or 0) + sets
  group.left = group.left - sets
end
