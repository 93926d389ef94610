-- Making way: units that float move to other locations of their pools, so that a request finds its own.
--
-- A sold-out SKU may have ten thousand holds, and every refusal must be cheap. So what floats is counted by group,
-- which is a channel, its pools and the places where these reservations have bound units: by card, place and group.
-- The counts outlive a call (TERMS.count_floating keeps them up to date, begin_batch drops them when somebody else
-- wrote to the partition). Whether units can make way at all is told by them alone; holds are read only to move some.

local FLOATERS = { MOST_CARDS = 1000, AT_ONCE = 128 }

-- What a request moves for trial, from the beginning: holds that were read, moves, and by how much the counts differ.
function FLOATERS.begin(state)
  state.floaters, state.moves, state.shifted = {}, {}, {}
end

-- Sums up what floats on a card: by place and group. Costs some microseconds for each of its holds.
function FLOATERS.count_card(member, card)
  local counted, seen = {}, {}
  local ids = list_claims(card)
  load_operations(ids)
  for i = 1, #ids do
    local raw = not seen[ids[i]] and remembered[ids[i]]
    local terms = raw and string_byte(raw) == KIND.RESERVATION and TERMS.read(raw)
    seen[ids[i]] = true
    if terms and terms.pools ~= '' then
      local quantities, places, skus = decode_plan(raw)
      local held, group = decode_progress(raw, decode_head(raw), quantities).held, TERMS.group_of(terms, member.sku)
      for j = 1, #places do
        if skus[j] == member.sku and held[j] > 0 and TERMS.floats(terms, j)
          and card_of(load_position(member.card, places[j])) == card then
          local groups = counted[places[j]] or {}
          counted[places[j]] = groups
          groups[group] = (groups[group] or 0) + held[j]
        end
      end
    end
  end
  return counted
end

function FLOATERS.counts_of(member, card)
  local known, field = RUN.floating[key_of.meta], field_of[card]
  if not known then
    -- What this call has changed is in there, which is true only once it is written.
    known = { epoch = epoch_now, seq = event_count == 0 and last_seq or nil, cards = {}, size = 0 }
    RUN.floating[key_of.meta] = known
  end
  if not known.cards[field] then
    if known.size >= FLOATERS.MOST_CARDS then
      known.cards, known.size = {}, 0
    end
    known.cards[field], known.size = FLOATERS.count_card(member, card), known.size + 1
  end
  return known.cards[field]
end

-- The groups that float at a place, with the moves of this request, in the order of their names.
function FLOATERS.groups_at(state, member, place, position)
  local at, found, counted = place .. member.sku, {}, FLOATERS.counts_of(member, card_of(position))[place] or {}
  local shifted, aside = state.shifted[at] or {}, state.set_aside and state.set_aside[at]
  for name, units in pairs(counted) do
    found[#found + 1] = { name = name, units = units + (shifted[name] or 0) + (aside and aside[name] or 0) }
  end
  for name, units in pairs(shifted) do
    if not counted[name] then
      found[#found + 1] = { name = name, units = units }
    end
  end
  table.sort(found, function(a, b)
    return a.name < b.name
  end)
  return found
end

-- A hold of which units may move: what it is and how many float where; false where none do.
function FLOATERS.read(state, id, sku)
  local floater = state.floaters[id .. sku]
  if floater ~= nil then
    return floater
  end
  local raw = remembered[id]
  local terms = raw and string_byte(raw) == KIND.RESERVATION and TERMS.read(raw)
  floater = false
  if terms and terms.pools ~= '' then
    local head = decode_head(raw)
    local quantities, places, skus = decode_plan(raw)
    local units = decode_progress(raw, head, quantities)
    floater = { id = id, channel = terms.channel, group = TERMS.group_of(terms, sku), units = {} }
    for i = 1, #places do
      if skus[i] == sku and units.held[i] > 0 and TERMS.floats(terms, i) then
        floater.units[places[i]] = units.held[i]
      end
    end
  end
  state.floaters[id .. sku] = floater
  return floater
end

function FLOATERS.shift(shifted, sku, place, group, quantity)
  local groups = shifted[place .. sku] or {}
  shifted[place .. sku] = groups
  groups[group] = (groups[group] or 0) + quantity
end

function FLOATERS.move(state, floater, member, from, to, quantity)
  local trial = state.request.trial
  ROOMS.shift_trial(trial, load_position(member.card, from), from, member.sku, floater.channel, -quantity)
  ROOMS.shift_trial(trial, load_position(member.card, to), to, member.sku, floater.channel, quantity)
  FLOATERS.shift(state.shifted, member.sku, from, floater.group, -quantity)
  FLOATERS.shift(state.shifted, member.sku, to, floater.group, quantity)
  local left = floater.units[from] - quantity
  floater.units[from] = left > 0 and left or nil
  floater.units[to] = (floater.units[to] or 0) + quantity
  state.moves[#state.moves + 1] = { id = floater.id, sku = member.sku, from = from, to = to, quantity = quantity }
end

-- Moves units of a group from one place to another, those of the newest holds first. Returns how many.
function FLOATERS.move_group(state, member, group, from, to, quantity)
  local ids, moved = list_claims(card_of(load_position(member.card, from))), 0
  for last = #ids, 1, -FLOATERS.AT_ONCE do
    local some = {}
    for i = last, math_max(1, last - FLOATERS.AT_ONCE + 1), -1 do
      some[#some + 1] = ids[i]
    end
    load_operations(some)
    for i = 1, #some do
      local floater = FLOATERS.read(state, some[i], member.sku)
      local units = floater and floater.group == group and floater.units[from]
      if units then
        local part = math_min(units, quantity - moved)
        FLOATERS.move(state, floater, member, from, to, part)
        moved = moved + part
        if moved == quantity then
          return moved
        end
      end
    end
  end
  return moved
end

-- Moves units of one group away from a place until `needed` more are free there; how many that was.
function FLOATERS.free_by_group(state, member, group, place, needed, seen)
  local channel, pools, bound_at = string.match(group.name, '^(.-)\n(.-)\n(\n.*)$')
  local allowed, rules = ROOMS.union_of(state.settings, pools), ROOMS.rules_of(state.settings, channel)
  local freed, left = 0, group.units
  for i = 1, #member.places do
    local to = member.places[i]
    if not seen[to] and allowed[string_sub(to, 2, -2)] and ROOMS.is_open(state, to)
      and not string_find(bound_at, to, 1, true) then
      local wanted, other = math_min(left, needed - freed), load_position(member.card, to)
      local room = ROOMS.room(other, to, member.sku, rules)
      if room < wanted then
        FLOATERS.free_up(state, member, to, wanted - room, seen)
        room = ROOMS.room(other, to, member.sku, rules)
      end
      if room > 0 then
        local moved = FLOATERS.move_group(state, member, group.name, place, to, math_min(wanted, room))
        freed, left = freed + moved, left - moved
        if freed == needed or left == 0 then
          return freed
        end
      end
    end
  end
  -- Wherever this group may go there is no room: no other place of it has to be tried.
  seen[group.name] = true
  return freed
end

-- Moves floating units away from a place until `needed` more are free there; how many that was. `seen` are the
-- places and groups that were tried on the way here.
function FLOATERS.free_up(state, member, place, needed, seen)
  seen[place] = true
  local position, freed = load_position(member.card, place), 0
  local policy = position and policy_of[position]
  -- Units of this trial may float where none did before. What is given back where some wait is theirs.
  if not policy or policy[POLICY.FLOATING] == 0 and #state.moves == 0 or policy[POLICY.PREORDERED] > 0 then
    return freed
  end
  local groups = FLOATERS.groups_at(state, member, place, position)
  for i = 1, #groups do
    if freed < needed and groups[i].units > 0 and not seen[groups[i].name] then
      freed = freed + FLOATERS.free_by_group(state, member, groups[i], place, needed - freed, seen)
    end
  end
  return freed
end

-- Whether any place of a member has units that nobody was promised; those of fences count as well.
function FLOATERS.has_free_place(member)
  for i = 1, #member.places do
    local position = load_position(member.card, member.places[i])
    local policy = policy_of[position]
    if free_units(position) + backorder_limit(position) + (policy and policy[POLICY.FENCED] or 0) > 0 then
      return true
    end
  end
  return false
end

-- Frees units of a group's only member at its candidates and takes them.
function FLOATERS.take_by_moving(state, group, candidates)
  local request, member, seen = state.request, group.members[1], {}
  -- Also where a request names its place: what floats there may go to any other.
  member.places = member.places or list_places(ROOMS.names_of(member.card))
  local at_once = request.splits and 1 or group.left
  for i = 1, FLOATERS.has_free_place(member) and #candidates or 0 do
    local place = candidates[i].place
    while group.left > 0 and not seen[place] do
      local room = ROOMS.room(load_position(member.card, place), place, member.sku, request.rules)
      local freed = FLOATERS.free_up(state, member, place, group.left * member.units - room, seen)
      local room_now = ROOMS.room(load_position(member.card, place), place, member.sku, request.rules)
      local sets = math_min(group.left, math_floor(room_now / member.units))
      if sets >= at_once then
        ROOMS.take_sets(request, group, place, sets)
      end
      if freed > 0 or room > 0 then
        -- Others may go elsewhere now, or into what is too little for a set here.
        seen = {}
      end
      if room_now <= room then
        break -- also where what became free is not for this channel
      end
    end
  end
end
