-- Records counts: what was on hand at a moment, whatever movements of before or after it are told later. Without a
-- moment it is a set: on_hand as of now, perhaps only if the position still is as its caller saw it. A position that
-- is to be counted is no longer, unless that was wanted after the moment of the count.
--@verb record_count
--@flags
--@include builtins state clock card claims record batch parts places defaults facts
--@key meta inv:{p}:meta hash rw
--@key operations inv:{p}:ops hash rw
--@key due inv:{p}:due zset rw
--@key log inv:{p}:log stream w
--@key stock inv:{p}:stock hash rw
--@key locations inv:{p}:locations hash r
--@key stocked inv:{p}:stocked hash rw
--@key moves inv:{p}:moves zset rw
--@key counts inv:{p}:counts hash rw
--@key wanted inv:{p}:wanted hash rw
--@key defaults inv:{p}:defaults hash r
--@arg retention_ms how long an operation id is remembered
--@arg history_ms how long movements are kept: what is older cannot be put on top of a count
--@arg request... id(12) fingerprint(8) expected(2 + n) counted_ms(I6; 0: a set) quantity(i7) place(1 + n) sku(2 + n),
--  then what only the caller reads. `expected`: the position's counters, joined by commas; empty: whatever they are
--@answer replayed [word, result]: as in movement
--@answer idempotency_mismatch [word]
--@answer location_not_found [word, seq]
--@answer version_mismatch [word, seq]
--@answer quantity_out_of_range [word, seq, on_hand]
--@answer recorded string: result as in movement; ignored: 1 there is a newer count, 2 it is older than the history
--@event count id(12) result size(I4) result counted_ms(I6) quantity(i7) place sku set(B) rest

local NEWEST_OF_ALL = '\255\255\255\255\255\255\255\255\255\255\255\255' -- the rank of a set among counts of its moment
local SUMMED = 1000 -- movements that are read at a time

-- The units that came and went after a moment. Cost: 0.3 µs for each movement since. Further counts of the call on
-- that position are newer ones: of what was summed up for the last one, what came up to them is taken off.
local function sum_moves(name, after_ms)
  local known, total, to = FACT.sums[name], 0, '(' .. name .. '\255'
  local from = '[' .. name .. pack('>I6', after_ms + 1)
  if known then
    from, to = '[' .. name .. pack('>I6', known.after_ms + 1), '(' .. name .. pack('>I6', after_ms + 1)
  end
  local members
  repeat
    members = redis.call('ZRANGE', key_of.moves, from, to, 'BYLEX', 'LIMIT', '0', SUMMED)
    for i = 1, #members do
      total = total + unpack_struct(MOVES.UNITS, members[i], #members[i] - MOVES.UNITS_SIZE + 1)
    end
    from = '(' .. (members[#members] or '')
  until #members < SUMMED
  FACT.sums[name] = { after_ms = after_ms, total = known and known.total - total or total }
  return FACT.sums[name].total
end

-- Whether a count is newer than another. Texts are compared as numbers: the server may sort text as people do.
local function is_newer(counted_ms, rank, other)
  local other_ms, other_high, other_low = unpack_struct('>I6I6I6', other)
  local high, low = unpack_struct('>I6I6', rank)
  if counted_ms ~= other_ms then
    return counted_ms > other_ms
  end
  return high > other_high or high == other_high and low > other_low
end

-- The counters of a position as whoever expects something has them.
local function show_counters(position)
  local shown = {}
  for _, counter in ipairs({ hand_of[position], held_of[position], allocated_of[position], unsellable_of[position] }) do
    shown[#shown + 1] = string_format('%d', counter)
  end
  for _, counter in ipairs(policy_of[position] or {}) do
    shown[#shown + 1] = string_format('%d', counter)
  end
  return concat(shown, ',')
end

-- What on_hand a count leads to, why it leads to none, and how many units it stands for at its moment.
local function weigh_count(name, is_set, counted_ms, rank, quantity, oldest_ms)
  local newest = FACT.counts[name]
  if newest and not is_set and not is_newer(counted_ms, rank, newest) then
    return nil, FACT.COUNTED_SINCE
  elseif counted_ms < oldest_ms then
    return nil, FACT.TOO_OLD
  end
  local later = sum_moves(name, counted_ms)
  if is_set then
    return quantity, 0, quantity - later
  end
  return quantity + later, 0, quantity
end

local function decide_count(request, card, retention_ms, history_ms)
  local id, fingerprint, expected, at = unpack_struct('<c12c8Hc0', request)
  local counted_ms, quantity, place, sku, rest_at = unpack_struct('<I6i7Bc0Hc0', request, at)
  local replayed = replay_fact(id, fingerprint)
  if replayed then
    return replayed
  elseif not is_location(string_sub(place, 2, -2)) then
    return { 'location_not_found', last_seq }
  end
  local name, position, is_set = sku .. place, load_position(card, place), counted_ms == 0
  if expected ~= '' and (not position or show_counters(position) ~= expected) then
    return { 'version_mismatch', last_seq }
  end
  if is_set then
    local newest = FACT.counts[name]
    counted_ms = math_max(now_ms - 1, newest and unpack_struct('>I6', newest) or 0)
  elseif counted_ms <= now_ms - retention_ms and position and is_in_history(name, counted_ms, id) then
    return { 'replayed', fact_result(position, last_seq, 0, 0) }
  end
  counted_ms = is_set and counted_ms or math_min(counted_ms, now_ms - 1)
  local rank, before = is_set and NEWEST_OF_ALL or id, position and hand_of[position] or 0
  local on_hand, ignored, units = weigh_count(name, is_set, counted_ms, rank, quantity, now_ms - history_ms)
  on_hand = on_hand or before
  if on_hand > FACT.LIMIT_ON_HAND or on_hand < -FACT.LIMIT_ON_HAND then
    return { 'quantity_out_of_range', last_seq, before }
  end
  position = take_position(position, card, place)
  hand_of[position] = on_hand
  POLICY.settle(position)
  mark_changed(position)
  if units then
    local count = pack('>I6', counted_ms) .. rank .. pack('<i7', units)
    FACT.counts[name], FACT.new_counts[name] = count, count
  end
  local result = fact_result(position, next_sequence(), on_hand - before, ignored)
  if on_hand < before then
    result = result .. name_uncovered(position, sku, place, uncovered_units(position))
  end
  file_fact(VERB.COUNT, {
    id = id, fingerprint = fingerprint, sku = sku, place = place, occurred_ms = counted_ms, units = 0,
    retention_ms = retention_ms,
  }, result, string_sub(request, at + 6, rest_at - 1) .. (is_set and '\1' or '\0') .. string_sub(request, rest_at))
  return result
end

local function record_count(keys, args)
  begin_batch(keys[1], keys[2], keys[3], keys[4], keys[5], keys[8])
  begin_facts(keys[6], keys[11])
  local retention_ms, history_ms, ids, asked, names = tonumber(args[1]), tonumber(args[2]), {}, {}, {}
  local fields, field_of, wanted = {}, {}, {}
  for i = 3, #args do
    local id, _, at = unpack_struct('<c12xxxxxxxxHc0', args[i])
    local place, sku = unpack_struct('<xxxxxxxxxxxxxBc0Hc0', args[i], at)
    ids[i - 2], asked[i], names[i - 2] = id, want_card(sku), sku .. place
    fields[i - 2], field_of[sku .. place] = place .. sku, place .. sku
  end
  load_operations(ids)
  read_cards()
  read_positions(keys[9], names, FACT.counts)
  read_positions(keys[10], fields, wanted)
  local answer = begin_answer(#args - 2)
  for i = 3, #args do
    answer[i + 1] = decide_count(args[i], asked[i], retention_ms, history_ms)
  end
  end_answer(answer)
  --@writes
  write_batch()
  for location, count_of_new in pairs(FACT.new_positions) do
    redis.call('HINCRBY', keys[7], location, count_of_new)
  end
  for name, counted in pairs(FACT.new_counts) do
    redis.call('HSET', keys[9], name, counted)
    local field = field_of[name]
    -- A count of this moment lies a millisecond back.
    if wanted[field] and unpack_struct('<I6', wanted[field]) <= unpack_struct('>I6', counted) + 1 then
      redis.call('HDEL', keys[10], field)
    end
  end
  return answer
end
