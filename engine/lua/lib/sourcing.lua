-- Sourcing: which locations a request takes its units from. It is decided here, on the stock as it stands and with the
-- settings of this partition, so a choice is never out of date.
--
-- A request has groups. A group is so many sets of its members, each set from one location: a line is a group of
-- one member, a kit one of its components. A group has a place of its own, or it is for the pools of the request, and
-- then every location of theirs that stocks all members is a candidate.
--
-- While a request is decided its units are taken from the working copy, noted in `taken`, and put back if it is
-- refused. Where its pools have too little, units that float (see terms.lua) make way: they are moved to other
-- locations of their own pools, further ones there to others, along the paths of a maximum flow: see floating.lua.
-- Those moves, too, are done for trial, and written only once the request is accepted.
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
  MOST_KEPT = 200000, MOST_REFUSALS = 200, -- candidates and sold-out SKUs that the settings keep
}

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

function SOURCING.has_capability(location, capability)
  for i = 1, type(location.capabilities) == 'table' and #location.capabilities or 0 do
    if location.capabilities[i] == capability then
      return true
    end
  end
  return capability == ''
end

-- The candidates of a group: { open, others, by_place }, where `others` are those that its pools have but that cannot
-- be chosen. Where neither distance nor stock decides they are the ones that the settings keep.
function SOURCING.find_candidates(state, group)
  local request = state.request
  if group.place ~= '' then
    return SOURCING.place_of_its_own(state, group)
  end
  local kept = SOURCING.kept_candidates(state, group.members[1].card)
  if #group.members == 1 and not request.lat and request.strategy ~= SOURCING.MOST_STOCK
    and request.strategy ~= SOURCING.NEAREST then
    return kept
  end
  local found = { open = SOURCING.fit_candidates(request, group, kept.open), by_place = {} }
  found.others = SOURCING.fit_candidates(request, group, kept.others)
  for i = 1, #found.open do
    found.by_place[found.open[i].place] = true
  end
  return found
end

-- Those candidates that stock all members of a group, with how far they are.
function SOURCING.fit_candidates(request, group, kept)
  local found = {}
  for i = 1, #kept do
    local one = kept[i]
    if SOURCING.is_stocked(group, one.place) then
      found[#found + 1] = {
        place = one.place, priority = one.priority, shares = one.shares, reason = one.reason,
        km = SOURCING.distance_km(request, one.location),
      }
    end
  end
  return found
end

function SOURCING.is_stocked(group, place)
  for i = 1, #group.members do
    if not load_position(group.members[i].card, place) then
      return false
    end
  end
  return true
end

function SOURCING.place_of_its_own(state, group)
  local found = { open = {}, others = {}, by_place = {} }
  if SOURCING.is_stocked(group, group.place) then
    local location = state.settings.locations[string_sub(group.place, 2, -2)] or {}
    found.open[1] = {
      place = group.place, priority = 0, shares = 0, km = SOURCING.distance_km(state.request, location),
    }
    found.by_place[group.place] = true
  end
  return found
end

-- The candidates of a SKU in the order of priority. They depend on the settings and on where the SKU is stocked, so the
-- settings keep them: many SKUs are stocked at the same places.
function SOURCING.kept_candidates(state, card)
  local settings, request, names = state.settings, state.request, ROOMS.names_of(card)
  local of_pools = settings.orders[request.pools] or {}
  local of_capability = of_pools[request.capability] or {}
  settings.orders[request.pools], of_pools[request.capability] = of_pools, of_capability
  local kept = of_capability[names]
  if not kept then
    kept = SOURCING.list_candidates(state, list_places(names))
    settings.kept = settings.kept + #kept.open + #kept.others + 1
    if settings.kept > SOURCING.MOST_KEPT then
      settings.orders, settings.kept = {}, 0
    else
      of_capability[names] = kept
    end
  end
  return kept
end

function SOURCING.list_candidates(state, places)
  local found, request = { open = {}, others = {}, by_place = {}, is_sorted = true }, state.request
  for i = 1, #places do
    local id = string_sub(places[i], 2, -2)
    if request.allowed == true or request.allowed[id] then
      local location = state.settings.locations[id] or {}
      local candidate = {
        place = places[i], priority = tonumber(location.priority) or 0, shares = state.settings.shares[id] or 0,
        km = math.huge, location = location,
      }
      if not ROOMS.is_open(state, places[i]) then
        candidate.reason = SOURCING.INACTIVE
      elseif not SOURCING.has_capability(location, request.capability) then
        candidate.reason = SOURCING.INCAPABLE
      end
      local listed = candidate.reason and found.others or found.open
      listed[#listed + 1] = candidate
      found.by_place[places[i]] = not candidate.reason
    end
  end
  SOURCING.sort_candidates(found.open, SOURCING.PRIORITY)
  return found
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

-- A group's candidates, best first.
function SOURCING.rank_candidates(state, group)
  local candidates, request = group.candidates.open, state.request
  if not group.candidates.is_sorted then
    if request.strategy == SOURCING.MOST_STOCK then
      for i = 1, #candidates do
        candidates[i].sets = ROOMS.sets_at(group, candidates[i].place, request.rules)
      end
    end
    SOURCING.sort_candidates(candidates, request.strategy)
  end
  return candidates
end

-- ---------------------------------------------------------------- strategies

-- Takes groups one by one, each from its candidates in their order.
function SOURCING.take_in_order(state)
  local request = state.request
  for g = 1, #request.groups do
    local group, found = request.groups[g], 0
    local candidates = SOURCING.rank_candidates(state, group)
    for i = 1, #candidates do
      if group.left == 0 then
        break
      end
      local place = candidates[i].place
      local room = ROOMS.sets_at(group, place, request.rules)
      local sets = math_min(group.left, room)
      found = found + room
      if sets > 0 and (request.splits or sets == group.left) then
        ROOMS.take_sets(request, group, place, sets)
      end
    end
    group.found = found
    if group.left > 0 and #group.members == 1 and not request.rules.counts_inbound then
      FLOATERS.take_by_moving(state, group, candidates)
    end
  end
end

-- The candidates of all groups for the pools, best first.
function SOURCING.shared_candidates(state)
  local request, by_place, found, pooled = state.request, {}, {}, nil
  for g = 1, #request.groups do
    local group = request.groups[g]
    if group.place == '' then
      if not pooled and group.candidates.is_sorted then
        pooled = group.candidates
      elseif pooled ~= group.candidates then
        pooled = false
      end
    end
  end
  if pooled then
    return pooled.open -- of one group, or of several that are stocked at the same places
  end
  for g = 1, #request.groups do
    local group = request.groups[g]
    for i = 1, group.place == '' and #group.candidates.open or 0 do
      local candidate = group.candidates.open[i]
      if not by_place[candidate.place] then
        by_place[candidate.place] = true
        found[#found + 1] = candidate
      end
    end
  end
  SOURCING.sort_candidates(found, SOURCING.PRIORITY)
  return found
end

-- How much of a group a place gives.
function SOURCING.sets_of(request, group, place)
  if not group.candidates.by_place[place] then
    return 0
  end
  local sets = math_min(group.left, ROOMS.sets_at(group, place, request.rules))
  return (request.splits or sets == group.left) and sets or 0
end

-- Takes of all groups what a place gives: sets, counted in units.
function SOURCING.take_at(state, place)
  local request, units = state.request, 0
  for g = 1, #request.groups do
    local sets = SOURCING.sets_of(request, request.groups[g], place)
    if sets > 0 then
      ROOMS.take_sets(request, request.groups[g], place, sets)
      units = units + sets
    end
  end
  return units
end

-- How much of all groups a place would give. Groups that share a SKU take from one another: that is tried out.
function SOURCING.could_take(state, place)
  local request, units = state.request, 0
  if not request.shares_skus then
    for g = 1, #request.groups do
      units = units + SOURCING.sets_of(request, request.groups[g], place)
    end
    return units
  end
  local size, lines, line_of, before = #request.trial, request.lines, request.line_of, {}
  for g = 1, #request.groups do
    before[g] = { request.groups[g].left, request.groups[g].taken }
    request.groups[g].taken = {}
  end
  request.lines, request.line_of = {}, {}
  units = SOURCING.take_at(state, place)
  ROOMS.undo_trial(request.trial, size)
  request.lines, request.line_of = lines, line_of
  for g = 1, #request.groups do
    request.groups[g].left, request.groups[g].taken = before[g][1], before[g][2]
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
  ROOMS.undo_trial(request.trial, 0)
  FLOATERS.begin(state)
  request.lines, request.line_of = {}, {}
  for g = 1, #request.groups do
    local group = request.groups[g]
    group.missing, group.left, group.taken = group.left, group.sets, {}
  end
end

-- Takes what groups with a place of their own ask for.
function SOURCING.take_bound(request)
  for g = 1, #request.groups do
    local group = request.groups[g]
    local sets = group.place ~= '' and SOURCING.sets_of(request, group, group.place) or 0
    if sets > 0 then
      ROOMS.take_sets(request, group, group.place, sets)
    end
  end
end

-- One location for all that the pools are to give; with `may_add`, one after the other, each time the one that gives
-- most of what is left.
function SOURCING.take_from_few(state, may_add)
  local request = state.request
  SOURCING.take_bound(request)
  local candidates, left = SOURCING.shared_candidates(state), SOURCING.units_left(request)
  while left > 0 do
    local best, most = nil, 0
    for i = 1, #candidates do
      local units = SOURCING.could_take(state, candidates[i].place)
      if units > most then
        best, most = candidates[i], units
      end
      if units == left then
        break
      end
    end
    if not best then
      return
    end
    SOURCING.take_at(state, best.place)
    if not may_add then
      return
    end
    left = SOURCING.units_left(request)
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
        if #unknown == 2 or unknown[#unknown] ~= g - 1 then
          unknown[#unknown + 1] = g - 1
        end
      end
    end
    if group.place ~= '' and #group.candidates.open == 0 then
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
  request.rules = ROOMS.rules_of(settings, request.channel)
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
  request.allowed = request.pools == '' or ROOMS.union_of(settings, request.pools)
  return nil
end

function SOURCING.prepare(state)
  local request, asked = state.request, {}
  local refusal = SOURCING.find_pools(state)
  if refusal then
    return refusal
  end
  for g = 1, #request.groups do
    local group = request.groups[g]
    for i = 1, #group.members do
      request.shares_skus = request.shares_skus or asked[group.members[i].card] or false
      asked[group.members[i].card] = true
    end
    group.candidates = SOURCING.find_candidates(state, group)
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
      local size, available = #refusal, not request.shares_skus and not request.from_inbound and group.found or nil
      if not available then
        available = 0
        for i = 1, #group.candidates.open do
          available = available + ROOMS.sets_at(group, group.candidates.open[i].place, request.rules)
        end
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

-- The stored texts of a SKU: they differ when anything of its stock or its holds does.
function SOURCING.texts_of(card)
  if not is_divided(card) then
    return { text_of[card] }
  end
  local texts = {}
  for page = 0, CARD.PAGES - 1 do
    texts[page + 1] = text_of[want_card(field_of[card] .. '\n' .. page)] or ''
  end
  return texts
end

-- Under which name a refusal is kept: of one SKU of pools, and only while this call has changed nothing. Who is told
-- what a plan would do, or may be promised what is inbound, is always looked at anew.
function SOURCING.refusal_name(state)
  local request, group = state.request, state.request.groups[1]
  if request.groups[2] or group.members[2] or group.place ~= '' or request.from_inbound or state.set_aside
    or changed_count > 0 then
    return nil
  end
  local how = request.strategy .. (request.splits and '+' or '-') .. (request.parts and '+' or '-')
  return concat({ how, group.members[1].units, request.channel, request.pools, request.capability }, '\n\n')
end

-- Whether the same or less was refused before, with nothing left anywhere, and the SKU is as it was then.
function SOURCING.is_refused_again(state, name)
  local kept = name and state.settings.refused[field_of[state.request.groups[1].members[1].card]]
  local before = kept and kept[name]
  if not before or before.sets > state.request.groups[1].sets then
    return false
  end
  local texts = SOURCING.texts_of(state.request.groups[1].members[1].card)
  for i = 1, #texts do
    if texts[i] ~= before.texts[i] then
      return false
    end
  end
  return #texts == #before.texts
end

function SOURCING.keep_refusal(state, name)
  local settings, group = state.settings, state.request.groups[1]
  -- A fence stands in a field of its own.
  if name and group.found == 0 and not RUN.met_fence then
    local field = field_of[group.members[1].card]
    if not settings.refused[field] then
      settings.refusals = settings.refusals + 1
      if settings.refusals > SOURCING.MOST_REFUSALS then
        settings.refused, settings.refusals = {}, 1
      end
      settings.refused[field] = {}
    end
    settings.refused[field][name] = { sets = group.sets, texts = SOURCING.texts_of(group.members[1].card) }
  end
end

-- Decides a request on the working copy. Returns nothing when it can be held: what it takes is then taken for trial,
-- and `state` says what else moves. Returns a refusal when not, and everything is as it was.
function SOURCING.decide(state)
  local refusal = SOURCING.prepare(state)
  if refusal then
    return refusal
  end
  local name = SOURCING.refusal_name(state)
  if SOURCING.is_refused_again(state, name) then
    return { 'insufficient_stock', last_seq, 0, 0, state.request.groups[1].sets }
  end
  RUN.met_fence = false
  FLOATERS.begin(state)
  SOURCING.run_strategy(state)
  if state.request.from_inbound and SOURCING.units_left(state.request) > 0 then
    SOURCING.take_inbound(state)
  end
  if SOURCING.is_satisfied(state.request) then
    return nil
  end
  SOURCING.reset_request(state)
  SOURCING.keep_refusal(state, name)
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
