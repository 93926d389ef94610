-- Tells what `source` would do with a request at this moment, and why, and does nothing.
--@verb plan
--@flags no-writes
--@include builtins state clock card claims record batch terms places rooms floating sourcing
--@key meta inv:{p}:meta hash r
--@key operations inv:{p}:ops hash r
--@key due inv:{p}:due zset r
--@key stock inv:{p}:stock hash r
--@key locations inv:{p}:locations hash r
--@key pools inv:{p}:pools hash r
--@key channels inv:{p}:channels hash r
--@arg request... swept(B) own(H) id(12)..., then what lib/sourcing.lua reads: what these reservations hold counts as free
--@answer pool_not_found [word, seq]
--@answer channel_not_found [word, seq]
--@answer sku_not_found [word, seq, group index...]
--@answer not_stocked [word, seq, group index...]
--@answer overdue [word]: holds have lapsed that are still counted; sweep, then repeat with swept = 1
--@answer planned [seq, whether all fits: 1 or 0, candidates of the first group, of the second, ...]: of each candidate
--  place(1 + n) reason(B) sets(I6) taken(I5) free(i7) backorder_limit(i7) low_stock(i7) expected(i7) metres(I5)

local UNKNOWN_METRES = 1099511627775
local OWN_AT = 4 -- of a request

local function pack_candidate(state, group, candidate)
  local member, place = group.members[1], candidate.place
  local position = load_position(member.card, place)
  local policy = policy_of[position] or { 0, 0, 0, 0, 0, 0, 0, 0 }
  local taken, reason = group.taken[place] or 0, candidate.reason
  local sets = candidate.reason and 0 or ROOMS.sets_at(group, place, state.request.rules)
  if not reason then
    reason = taken > 0 and SOURCING.CHOSEN or sets == 0 and SOURCING.OUT_OF_STOCK
      or group.left > 0 and SOURCING.TOO_LITTLE or SOURCING.NOT_NEEDED
  end
  return pack('<B', #place) .. place .. pack('<BI6I5i7i7i7i7I5', reason, math_min(sets, 1e12), taken,
    ROOMS.free_for(position, place, member.sku, state.request.rules, 0), backorder_limit(position),
    policy[POLICY.LOW_STOCK], policy[POLICY.INBOUND] - policy[POLICY.PREORDERED],
    candidate.km < math.huge and math_floor(candidate.km * 1000) or UNKNOWN_METRES)
end

-- The candidates of a group as they stand before anything is taken, with what is taken of each.
local function pack_group(state, group)
  local parts = {}
  for _, listed in ipairs({ group.candidates.open, group.candidates.others }) do
    for i = 1, #listed do
      parts[#parts + 1] = pack_candidate(state, group, listed[i])
    end
  end
  return concat(parts)
end

local function decide_plan(state)
  local request, refusal = state.request, SOURCING.decide(state)
  if refusal and refusal[1] ~= 'insufficient_stock' then
    return refusal
  end
  ROOMS.undo_trial(request.trial, 0)
  local answer = { last_seq, refusal and 0 or 1 }
  for g = 1, #request.groups do
    answer[g + 2] = pack_group(state, request.groups[g])
  end
  return answer
end

-- Gives back for trial what a reservation holds of the SKUs that are asked for. What floats of it moves no more.
local function give_back(state, trial, id)
  local raw = remembered[id]
  if not has_lines(raw) then
    return
  end
  local terms, quantities, places, skus = TERMS.read(raw), decode_plan(raw)
  local units = decode_progress(raw, decode_head(raw), quantities)
  for i = 1, #places do
    local position = units.held[i] > 0 and card_index[skus[i]] and load_position(card_index[skus[i]], places[i])
    if position then
      ROOMS.shift_trial(trial, position, places[i], skus[i], terms and terms.channel or '', -units.held[i])
      if terms then
        FLOATERS.shift(state.set_aside, skus[i], places[i], TERMS.group_of(terms, skus[i]), -units.held[i])
      end
    end
  end
end

local function decide_own(settings, request, own)
  local state = { settings = settings, request = request, set_aside = {} }
  local given_back = {}
  for i = 1, #own do
    give_back(state, given_back, own[i])
  end
  local answer = decide_plan(state)
  ROOMS.undo_trial(given_back, 0)
  return answer
end

local function plan(keys, args)
  begin_batch(keys[1], keys[2], keys[3], nil, keys[4])
  local answer, asked, is_overdue = begin_answer(#args), {}, has_overdue()
  local own_of = {}
  for i = 1, #args do
    local own, cursor = {}, OWN_AT
    for j = 1, unpack_struct('<H', args[i], 2) do
      own[j], cursor = string_sub(args[i], cursor, cursor + OPERATION_SIZE - 1), cursor + OPERATION_SIZE
    end
    asked[i], own_of[i] = SOURCING.read_request(args[i], cursor), own
    load_operations(own)
  end
  read_cards()
  local settings = ROOMS.load_settings(keys[5], keys[6], keys[7])
  for i = 1, #args do
    answer[i + 3] = is_overdue and string_byte(args[i]) == 0 and { 'overdue' }
      or decide_own(settings, asked[i], own_of[i])
  end
  --@writes
  return answer
end
