-- Sourcing: which locations a request takes its units from. It is decided here, on the stock as it stands and with the
-- settings of this partition, so a choice is never out of date.
--
-- A request has groups. A group is so many sets of its members, each set from one location: a line is a group of
-- one member, a kit one of its components. A group has a place of its own, or it is for the pools of the request, and
-- then every location of theirs that stocks all members is a candidate.
--
-- While a request is decided its units are taken from the working copy, noted in `taken`, and put back if it is
-- refused. Where its pools have too little, units that float (see terms.lua) make way: they are moved to other
-- locations of their own pools, further ones there to others, along the paths of a maximum flow. Those moves, too,
-- are done for trial, and written only once the request is accepted.
--
-- A request that may be promised of what is inbound takes units that are there first, everywhere. Only then the rooms
-- grow by what is inbound and promised to nobody.
local SOURCING = {
  PRIORITY = 1, NEAREST = 2, MOST_STOCK = 3, FEWEST_SPLITS = 4, SINGLE_LOCATION = 5, -- strategies
  -- What is told of a candidate.
  CHOSEN = 1, NOT_NEEDED = 2, OUT_OF_STOCK = 3, TOO_LITTLE = 4, INACTIVE = 5, INCAPABLE = 6,
  -- Flags of a request: a group may be divided; less than all may be held; where no pool is named all locations will do;
  -- what is inbound may be promised.
  SPLITS = 1, PARTS = 2, EVERYWHERE = 4, FROM_INBOUND = 8,
  RADIANS = 3.14159265358979 / 180, EARTH_KM = 6371,
}

-- ---------------------------------------------------------------- settings

function SOURCING.read_names(text)
  local names, cursor = {}, 3
  for i = 1, unpack_struct('<H', text) do
    names[i], cursor = unpack_struct('<Hc0', text, cursor)
  end
  return names, cursor
end

function SOURCING.read_all_settings(key)
  local found, flat = {}, redis.call('HGETALL', key)
  for i = 1, #flat, 2 do
    local names, cursor = SOURCING.read_names(flat[i + 1])
    local setting = cmsgpack.unpack(string_sub(flat[i + 1], cursor))
    setting.names = names
    found[flat[i]] = setting
  end
  return found
end

-- The settings of the partition: read anew when their number has changed.
function SOURCING.load_settings(locations, pools, channels)
  local number = redis.call('HGET', key_of.meta, 'settings') or '0'
  local known = RUN.settings[key_of.meta]
  if not known or known.number ~= number or known.epoch ~= epoch_now then
    known = {
      number = number, epoch = epoch_now, locations = SOURCING.read_all_settings(locations),
      pools = SOURCING.read_all_settings(pools), channels = SOURCING.read_all_settings(channels),
      unions = {}, shares = {},
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
function SOURCING.union_of(settings, pools)
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

function SOURCING.rules_of(settings, channel)
  local setting = settings.channels[channel]
  local buffer = setting and type(setting.buffer) == 'table' and setting.buffer or {}
  return { channel = channel, units = tonumber(buffer.units) or 0, percent = tonumber(buffer.percent) or 0 }
end

-- ---------------------------------------------------------------- room

-- What a channel leaves to others at a position: units, or a share of the goods that are there to be sold.
function SOURCING.buffer_of(position, rules)
  local sellable = math_max(0, hand_of[position] - unsellable_of[position])
  return rules.units + math_floor((sellable * rules.percent + 99) / 100)
end

-- How many units of a position a channel may still take, beyond `limit` of them where back-orders are allowed.
-- Negative where even that is overdrawn.
function SOURCING.free_for(position, place, sku, rules, limit)
  local free = free_units(position) + limit
  local fence = TERMS.fence(position, place, sku, rules.channel)
  if not fence then
    return free - SOURCING.buffer_of(position, rules)
  elseif free < 0 then
    -- Fences cover more than there is: this one as far as it goes.
    return math_min(fence.remaining, free + policy_of[position][POLICY.FENCED])
  elseif fence.spill == 1 then
    return fence.remaining + math_max(0, free - SOURCING.buffer_of(position, rules))
  end
  return fence.remaining
end

-- How many units may be promised of what is inbound at a position. What is missing there comes first; and where a
-- channel leaves units that are there to others, none, as what is promised of inbound goods would take those.
function SOURCING.inbound_room(position, place, sku, rules)
  local policy, room = policy_of[position], free_units(position) + backorder_limit(position)
  if not policy then
    return 0
  elseif room > 0 then
    local fence = TERMS.fence(position, place, sku, rules.channel)
    if SOURCING.buffer_of(position, rules) > 0 or fence and fence.spill == 0 then
      return 0
    end
  end
  return math_max(0, policy[POLICY.INBOUND] - policy[POLICY.PREORDERED] + math_min(0, room))
end

function SOURCING.room(position, place, sku, rules)
  local room = math_max(0, SOURCING.free_for(position, place, sku, rules, backorder_limit(position)))
  return rules.counts_inbound and room + SOURCING.inbound_room(position, place, sku, rules) or room
end

-- How many sets of a group a place has.
function SOURCING.sets_at(group, place, rules)
  local sets = math.huge
  for i = 1, #group.members do
    local member = group.members[i]
    local position = load_position(member.card, place)
    if not position then
      return 0
    end
    sets = math_min(sets, math_floor(SOURCING.room(position, place, member.sku, rules) / member.units))
  end
  return sets
end

-- ---------------------------------------------------------------- trying

-- Moves units of a position for trial: `quantity` is taken, or given back where it is negative.
function SOURCING.shift_trial(trial, position, place, sku, channel, quantity)
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
function SOURCING.undo_trial(trial, size)
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
function SOURCING.take_sets(request, group, place, sets)
  for i = 1, #group.members do
    local member = group.members[i]
    local position, quantity = load_position(member.card, place), sets * member.units
    SOURCING.shift_trial(request.trial, position, place, member.sku, request.rules.channel, quantity)
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

-- ---------------------------------------------------------------- making way

-- The holds of this call that may move: by id, what they are and how many units float where.
function SOURCING.read_floater(state, id, sku)
  local floater = state.floaters[id .. sku]
  if floater ~= nil then
    return floater
  end
  local raw = not (state.aside and state.aside[id]) and remembered[id]
  local terms = raw and string_byte(raw) == KIND.RESERVATION and TERMS.read(raw)
  floater = false
  if terms and terms.pools ~= '' then
    local head = decode_head(raw)
    local quantities, places, skus = decode_plan(raw)
    local units = decode_progress(raw, head, quantities)
    floater = { id = id, sku = sku, channel = terms.channel, pools = terms.pools, units = {}, bound = {} }
    for i = 1, #places do
      if skus[i] == sku and not TERMS.floats(terms, i) then
        floater.bound[places[i]] = true
      elseif skus[i] == sku and units.held[i] > 0 then
        floater.units[places[i]] = units.held[i]
      end
    end
  end
  state.floaters[id .. sku] = floater
  return floater
end

function SOURCING.floaters_at(state, card, place, sku)
  local found = {}
  local ids = list_claims(card)
  load_operations(ids)
  for i = #ids, 1, -1 do
    local floater = SOURCING.read_floater(state, ids[i], sku)
    if floater and floater.units[place] then
      found[#found + 1] = floater
    end
  end
  return found
end

function SOURCING.move_floater(state, floater, member, from, to, quantity)
  local trial = state.request.trial
  SOURCING.shift_trial(trial, load_position(member.card, from), from, member.sku, floater.channel, -quantity)
  SOURCING.shift_trial(trial, load_position(member.card, to), to, member.sku, floater.channel, quantity)
  local left = floater.units[from] - quantity
  floater.units[from] = left > 0 and left or nil
  floater.units[to] = (floater.units[to] or 0) + quantity
  state.moves[#state.moves + 1] = { id = floater.id, sku = floater.sku, from = from, to = to, quantity = quantity }
end

-- Moves floating units away from a place until `needed` more are free there; how many that was. `seen` are the
-- places that were tried on the way here.
function SOURCING.free_up(state, member, place, needed, seen)
  seen[place] = true
  local position, freed = load_position(member.card, place), 0
  local policy = position and policy_of[position]
  -- What is given back where some wait is theirs.
  if not policy or policy[POLICY.FLOATING] == 0 or policy[POLICY.PREORDERED] > 0 then
    return 0
  end
  local floaters = SOURCING.floaters_at(state, card_of(position), place, member.sku)
  for i = 1, #floaters do
    local floater = floaters[i]
    local allowed = SOURCING.union_of(state.settings, floater.pools)
    local rules = SOURCING.rules_of(state.settings, floater.channel)
    for j = 1, #member.places do
      local to, units = member.places[j], floater.units[place]
      if freed >= needed then
        return freed
      elseif units and not seen[to] and not floater.bound[to] and allowed[string_sub(to, 2, -2)]
        and SOURCING.is_open(state, to) then
        local wanted = math_min(units, needed - freed)
        local other = load_position(member.card, to)
        local room = SOURCING.room(other, to, member.sku, rules)
        if room < wanted then
          SOURCING.free_up(state, member, to, wanted - room, seen)
          room = SOURCING.room(other, to, member.sku, rules)
        end
        local moved = math_min(wanted, room)
        if moved > 0 then
          SOURCING.move_floater(state, floater, member, place, to, moved)
          freed = freed + moved
        end
      end
    end
  end
  return freed
end

-- Whether any place of a member has units that nobody was promised.
function SOURCING.has_free_place(member)
  for i = 1, #member.places do
    local position = load_position(member.card, member.places[i])
    if position and free_units(position) + backorder_limit(position) > 0 then
      return true
    end
  end
  return false
end

-- Frees units of a group's only member at its candidates and takes them.
function SOURCING.take_by_moving(state, group, candidates)
  local request, member = state.request, group.members[1]
  local at_once = request.splits and 1 or group.left
  for i = 1, #candidates do
    local place, progress = candidates[i].place, true
    while group.left > 0 and progress and SOURCING.has_free_place(member) do
      local room = SOURCING.sets_at(group, place, request.rules)
      progress = SOURCING.free_up(state, member, place, group.left * member.units - room, {}) > 0
      local sets = math_min(group.left, SOURCING.sets_at(group, place, request.rules))
      if sets >= at_once and sets > 0 then
        SOURCING.take_sets(request, group, place, sets)
      end
    end
  end
end

-- ---------------------------------------------------------------- candidates

function SOURCING.distance_km(request, location)
  if not (request.lat and tonumber(location.lat) and tonumber(location.lon)) then
    return math.huge
  end
  local lat, lon = request.lat * SOURCING.RADIANS, request.lon * SOURCING.RADIANS
  local to_lat, to_lon = location.lat * SOURCING.RADIANS, location.lon * SOURCING.RADIANS
  local a = math.sin((to_lat - lat) / 2) ^ 2
    + math.cos(lat) * math.cos(to_lat) * math.sin((to_lon - lon) / 2) ^ 2
  return 2 * SOURCING.EARTH_KM * math.asin(math_min(1, math.sqrt(a)))
end

function SOURCING.is_open(state, place)
  local location = state.settings.locations[string_sub(place, 2, -2)]
  return location and location.active ~= false
end

function SOURCING.has_capability(location, capability)
  for i = 1, type(location.capabilities) == 'table' and #location.capabilities or 0 do
    if location.capabilities[i] == capability then
      return true
    end
  end
  return capability == ''
end

-- All places that stock a SKU.
function SOURCING.places_of(card)
  local pages, found = { card }, {}
  if is_divided(card) then
    for page = 0, CARD.PAGES - 1 do
      pages[page + 1] = want_card(field_of[card] .. '\n' .. page)
    end
    read_cards()
  end
  for i = 1, #pages do
    local text = text_of[pages[i]]
    if text then
      local size = unpack_struct('<xxxH', text)
      local places = list_places(string_sub(text, NAMES_AT, NAMES_AT + size - 1))
      for j = 1, #places do
        found[#found + 1] = places[j]
      end
    end
  end
  return found
end

-- The candidates of a group, in no order, and those that its pools have but that cannot be chosen.
function SOURCING.find_candidates(state, group)
  local request, candidates, others = state.request, {}, {}
  local allowed = group.place == '' and request.allowed
  local places = group.place == '' and group.members[1].places or { group.place }
  for i = 1, #places do
    local place, is_stocked = places[i], true
    local id = string_sub(place, 2, -2)
    for j = 1, #group.members do
      is_stocked = is_stocked and load_position(group.members[j].card, place)
    end
    if is_stocked and (not allowed or allowed == true or allowed[id]) then
      local location = state.settings.locations[id] or {}
      local candidate = {
        place = place, priority = tonumber(location.priority) or 0, shares = state.settings.shares[id] or 0,
        km = SOURCING.distance_km(request, location),
      }
      if allowed and not SOURCING.is_open(state, place) then
        candidate.reason = SOURCING.INACTIVE
        others[#others + 1] = candidate
      elseif allowed and not SOURCING.has_capability(location, request.capability) then
        candidate.reason = SOURCING.INCAPABLE
        others[#others + 1] = candidate
      else
        candidates[#candidates + 1] = candidate
      end
    end
  end
  return candidates, others
end

-- Puts candidates in the order in which the strategy prefers them; what it leaves open goes to the location that the
-- fewest pools share.
function SOURCING.sort_candidates(candidates, strategy)
  table.sort(candidates, function(a, b)
    if strategy == SOURCING.MOST_STOCK and a.sets ~= b.sets then
      return a.sets > b.sets
    elseif strategy == SOURCING.NEAREST and a.km ~= b.km then
      return a.km < b.km
    elseif strategy ~= SOURCING.NEAREST and strategy ~= SOURCING.MOST_STOCK and a.priority ~= b.priority then
      return a.priority < b.priority
    elseif a.shares ~= b.shares then
      return a.shares < b.shares
    end
    return a.place < b.place
  end)
end

function SOURCING.rank_candidates(state, group)
  local request = state.request
  for i = 1, #group.candidates do
    group.candidates[i].sets = SOURCING.sets_at(group, group.candidates[i].place, request.rules)
  end
  SOURCING.sort_candidates(group.candidates, request.strategy)
end

-- ---------------------------------------------------------------- strategies

-- Takes groups one by one, each from its candidates in their order.
function SOURCING.take_in_order(state)
  local request = state.request
  for g = 1, #request.groups do
    local group = request.groups[g]
    SOURCING.rank_candidates(state, group)
    for i = 1, #group.candidates do
      local place = group.candidates[i].place
      local sets = math_min(group.left, SOURCING.sets_at(group, place, request.rules))
      if sets > 0 and (request.splits or sets == group.left) then
        SOURCING.take_sets(request, group, place, sets)
      end
    end
    if group.left > 0 and #group.members == 1 and not request.rules.counts_inbound then
      SOURCING.take_by_moving(state, group, group.candidates)
    end
  end
end

-- The candidates of all groups for the pools, best first.
function SOURCING.shared_candidates(state)
  local request, by_place, found = state.request, {}, {}
  for g = 1, #request.groups do
    local group = request.groups[g]
    SOURCING.rank_candidates(state, group)
    for i = 1, #group.candidates do
      local candidate = group.candidates[i]
      if group.place == '' and not by_place[candidate.place] then
        by_place[candidate.place] = true
        found[#found + 1] = candidate
      end
    end
  end
  SOURCING.sort_candidates(found, SOURCING.PRIORITY)
  return found
end

-- What of all groups a place could give: sets, counted in units.
function SOURCING.take_at(state, place)
  local request, units = state.request, 0
  for g = 1, #request.groups do
    local group = request.groups[g]
    if group.left > 0 and (group.place == '' or group.place == place) then
      local sets = 0
      for i = 1, #group.candidates do
        if group.candidates[i].place == place then
          sets = math_min(group.left, SOURCING.sets_at(group, place, request.rules))
        end
      end
      if sets > 0 and (request.splits or sets == group.left) then
        SOURCING.take_sets(request, group, place, sets)
        units = units + sets
      end
    end
  end
  return units
end

function SOURCING.units_left(request)
  local units = 0
  for g = 1, #request.groups do
    units = units + request.groups[g].left
  end
  return units
end

function SOURCING.reset_request(state)
  local request = state.request
  SOURCING.undo_trial(request.trial, 0)
  state.floaters, state.moves = {}, {}
  request.lines, request.line_of = {}, {}
  for g = 1, #request.groups do
    local group = request.groups[g]
    group.missing, group.left, group.taken = group.left, group.sets, {}
  end
end

-- Takes what groups with a place of their own ask for.
function SOURCING.take_bound(state)
  local request = state.request
  for g = 1, #request.groups do
    if request.groups[g].place ~= '' then
      SOURCING.take_at(state, request.groups[g].place)
    end
  end
end

-- One location for all that the pools are to give; with `may_add`, one after the other, each time the one that gives
-- most of what is left.
function SOURCING.take_from_few(state, may_add)
  local request = state.request
  SOURCING.take_bound(state)
  local candidates = SOURCING.shared_candidates(state)
  while SOURCING.units_left(request) > 0 do
    local best, most = nil, 0
    for i = 1, #candidates do
      local size = #request.trial
      local lines, line_of = request.lines, request.line_of
      local before = {}
      for g = 1, #request.groups do
        before[g] = { request.groups[g].left, request.groups[g].taken }
        request.groups[g].taken = {}
      end
      request.lines, request.line_of = {}, {}
      local units = SOURCING.take_at(state, candidates[i].place)
      SOURCING.undo_trial(request.trial, size)
      request.lines, request.line_of = lines, line_of
      for g = 1, #request.groups do
        request.groups[g].left, request.groups[g].taken = before[g][1], before[g][2]
      end
      if units > most then
        best, most = candidates[i], units
      end
    end
    if not best then
      return
    end
    SOURCING.take_at(state, best.place)
    if not may_add then
      return
    end
  end
end

-- ---------------------------------------------------------------- deciding

-- Reads a request: groups(B) of { sets(I5) place(1 + n) members(B) of { units(I5) sku(2 + n) } }, from `cursor` on.
function SOURCING.read_groups(args, cursor)
  local groups = {}
  local count, at = unpack_struct('<B', args, cursor)
  cursor = at
  for g = 1, count do
    local sets, place, members
    sets, place, members, cursor = unpack_struct('<I5Bc0B', args, cursor)
    local group = { sets = sets, left = sets, place = place, members = {}, taken = {} }
    for i = 1, members do
      local units, sku
      units, sku, cursor = unpack_struct('<I5Hc0', args, cursor)
      group.members[i] = { units = units, sku = sku, card = want_card(sku) }
    end
    groups[g] = group
  end
  return groups, cursor
end

-- Why a request cannot even be tried: settings or positions that are not there.
function SOURCING.find_missing(state)
  local request, unknown, missing = state.request, nil, nil
  for g = 1, #request.groups do
    local group = request.groups[g]
    for i = 1, #group.members do
      if not text_of[group.members[i].card] then
        unknown = unknown or { 'sku_not_found', last_seq }
        if unknown[#unknown] ~= g - 1 then
          unknown[#unknown + 1] = g - 1
        end
      end
    end
    if group.place ~= '' and #group.candidates == 0 then
      missing = missing or { 'not_stocked', last_seq }
      missing[#missing + 1] = g - 1
    end
  end
  return unknown or missing
end

-- Which channel and pools a request is for: its pool, else those of its channel. Returns a refusal, where one of them
-- does not exist.
function SOURCING.find_pools(state)
  local request, settings = state.request, state.settings
  local channel = settings.channels[request.channel]
  request.rules = SOURCING.rules_of(settings, request.channel)
  if request.asked_pool ~= '' then
    if not settings.pools[request.asked_pool] then
      return { 'pool_not_found', last_seq }
    end
    request.pools = request.asked_pool
  elseif channel then
    request.pools = concat(channel.names, '\n')
  elseif request.channel ~= '' and request.needs_pools or request.needs_pools and not request.everywhere then
    return { 'channel_not_found', last_seq }
  else
    request.pools = ''
  end
  request.allowed = request.pools == '' or SOURCING.union_of(settings, request.pools)
  return nil
end

function SOURCING.prepare(state)
  local request = state.request
  local refusal = SOURCING.find_pools(state)
  if refusal then
    return refusal
  end
  for g = 1, #request.groups do
    local group = request.groups[g]
    for i = 1, #group.members do
      local member = group.members[i]
      -- A place of its own may still be freed by moving what floats there to any other.
      member.places = member.places or (text_of[member.card] and SOURCING.places_of(member.card) or {})
    end
    group.candidates, group.others = SOURCING.find_candidates(state, group)
  end
  return SOURCING.find_missing(state)
end

function SOURCING.run_strategy(state)
  local strategy = state.request.strategy
  if strategy == SOURCING.SINGLE_LOCATION then
    SOURCING.take_from_few(state, false)
  elseif strategy == SOURCING.FEWEST_SPLITS then
    SOURCING.take_from_few(state, true)
    if SOURCING.units_left(state.request) > 0 then
      SOURCING.reset_request(state)
      SOURCING.take_in_order(state)
    end
  else
    SOURCING.take_in_order(state)
  end
end

-- Takes what is still missing of what is inbound, behind what is there. One location for all is looked for anew.
function SOURCING.take_inbound(state)
  local request = state.request
  request.rules.counts_inbound = true
  if request.strategy == SOURCING.SINGLE_LOCATION then
    SOURCING.reset_request(state)
    SOURCING.take_from_few(state, false)
  else
    SOURCING.take_in_order(state)
  end
end

-- What each short group asked for and could have.
function SOURCING.name_short(request)
  local refusal = { 'insufficient_stock', last_seq }
  for g = 1, #request.groups do
    local group = request.groups[g]
    if group.missing > 0 then
      local size, available = #refusal, 0
      for i = 1, #group.candidates do
        available = available + SOURCING.sets_at(group, group.candidates[i].place, request.rules)
      end
      refusal[size + 1], refusal[size + 2], refusal[size + 3] = g - 1, available, group.sets
    end
  end
  return refusal
end

function SOURCING.is_satisfied(request)
  local left = SOURCING.units_left(request)
  return left == 0 or request.parts and #request.lines > 0
end

-- Decides a request on the working copy. Returns nothing when it can be held: what it takes is then taken for trial,
-- and `state` says what else moves. Returns a refusal when not, and everything is as it was.
function SOURCING.decide(state)
  local refusal = SOURCING.prepare(state)
  if refusal then
    return refusal
  end
  SOURCING.run_strategy(state)
  if state.request.from_inbound and SOURCING.units_left(state.request) > 0 then
    SOURCING.take_inbound(state)
  end
  if SOURCING.is_satisfied(state.request) then
    return nil
  end
  SOURCING.reset_request(state)
  return SOURCING.name_short(state.request)
end

-- Reads a request: flags(B) strategy(B) near(B) lat(i4) lon(i4) channel(1 + n) pool(1 + n) capability(1 + n) groups,
-- from `cursor` on; coordinates in millionths of a degree, which count where `near` is 1. Returns its end as well.
function SOURCING.read_request(args, cursor)
  local flags, strategy, near, lat, lon, channel, pool, capability, groups
  flags, strategy, near, lat, lon, channel, pool, capability, cursor =
    unpack_struct('<BBBi4i4Bc0Bc0Bc0', args, cursor)
  groups, cursor = SOURCING.read_groups(args, cursor)
  local request = {
    splits = flags % 2 >= SOURCING.SPLITS, parts = flags % 4 >= SOURCING.PARTS, strategy = strategy,
    everywhere = flags % 8 >= SOURCING.EVERYWHERE, from_inbound = flags >= SOURCING.FROM_INBOUND,
    lat = near == 1 and lat / 1e6 or nil, lon = near == 1 and lon / 1e6 or nil, channel = channel,
    asked_pool = pool, capability = capability, groups = groups, needs_pools = false,
    trial = {}, lines = {}, line_of = {},
  }
  for g = 1, #groups do
    request.needs_pools = request.needs_pools or groups[g].place == ''
  end
  return request, cursor
end
