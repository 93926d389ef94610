-- Records facts: goods that came, went, were found to differ, or are in another condition. A fact is never refused
-- for lack of stock; where it takes away what was promised, the answer names the promises it broke.
--@verb movement
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
--@key counts inv:{p}:counts hash r
--@key conditions inv:{p}:conditions hash rw
--@key defaults inv:{p}:defaults hash r
--@arg retention_ms how long an operation id is remembered
--@arg request... id(12) fingerprint(8) occurred_ms(I6; 0: now) quantity(i7, signed) place(1 + n) sku(2 + n)
--  moved(i6, signed) from(1 + n) to(1 + n), then what only the caller reads: so many units leave the condition `from`
--  and come into the condition `to`; the sellable one has no name
--@answer replayed [word, result]: also where the id is forgotten, but the history has the fact; then as things stand
--@answer idempotency_mismatch [word]
--@answer location_not_found [word, seq]
--@answer quantity_out_of_range [word, seq, on_hand]
--@answer recorded string: result: seq(I5) epoch(H) on_hand(i7) available(i7) effect on on_hand(i7) ignored(B, 1: a
--  newer count has it in), then the newest uncovered promises, 100 at most, of { route(H) reservation(12) quantity(I6) }
--@event movement id(12) result size(I4) result occurred_ms(I6) quantity(i7) place sku moved(i6) from to rest

local QUANTITY_AT = 27 -- of a request

-- The conditions of a position after units moved between two of them; how many more are unsellable, and whether
-- all numbers are in range.
local function move_conditions(text, from, to, moved)
  local names, units, at, parts = {}, {}, 1, {}
  local before, after, fits_range = 0, 0, true
  while at <= #text do
    local name, count
    name, count, at = unpack_struct('<Bc0i7', text, at)
    names[#names + 1], units[name] = name, count
    before = before + math_max(0, count)
  end
  for i, name in ipairs({ from, to }) do
    if name ~= '' then
      if not units[name] then
        names[#names + 1], units[name] = name, 0
      end
      units[name] = units[name] + (i == 1 and -moved or moved)
    end
  end
  for i = 1, #names do
    local name = names[i]
    local count = units[name]
    after = after + math_max(0, count)
    fits_range = fits_range and count <= FACT.LIMIT_ON_HAND and count >= -FACT.LIMIT_ON_HAND
    if count ~= 0 then
      parts[#parts + 1] = pack('<B', #name) .. name .. pack('<i7', count)
    end
  end
  return concat(parts), after - before, fits_range
end

local function decide_movement(request, card, retention_ms)
  local id, fingerprint, occurred_ms, quantity, place, sku, moved, from, to =
    unpack_struct('<c12c8I6i7Bc0Hc0i6Bc0Bc0', request)
  local replayed = replay_fact(id, fingerprint)
  if replayed then
    return replayed
  elseif not is_location(string_sub(place, 2, -2)) then
    return { 'location_not_found', last_seq }
  end
  local name, position = sku .. place, load_position(card, place)
  local counted_ms = FACT.counts[name] and unpack_struct('>I6', FACT.counts[name]) or -1
  if occurred_ms == 0 or occurred_ms >= now_ms then
    occurred_ms = math_max(now_ms, counted_ms + 1)
  elseif position and occurred_ms <= now_ms - retention_ms and is_in_history(name, occurred_ms, id) then
    return { 'replayed', fact_result(position, last_seq, 0, 0) }
  end
  local effect = occurred_ms > counted_ms and quantity or 0
  local on_hand, conditions, unsellable, fits_range = (position and hand_of[position] or 0) + effect, nil, 0, true
  if moved ~= 0 then
    conditions, unsellable, fits_range = move_conditions(FACT.conditions[name] or '', from, to, moved)
  end
  if on_hand > FACT.LIMIT_ON_HAND or on_hand < -FACT.LIMIT_ON_HAND or not fits_range then
    return { 'quantity_out_of_range', last_seq, on_hand - effect }
  end
  position = take_position(position, card, place)
  hand_of[position], unsellable_of[position] = on_hand, unsellable_of[position] + unsellable
  POLICY.settle(position)
  mark_changed(position)
  if conditions then
    FACT.conditions[name], FACT.new_conditions[name] = conditions, conditions
  end
  local result = fact_result(position, next_sequence(), effect, effect ~= quantity and FACT.COUNTED_SINCE or 0)
  if effect < unsellable then
    result = result .. name_uncovered(position, sku, place, uncovered_units(position))
  end
  file_fact(VERB.MOVEMENT, {
    id = id, fingerprint = fingerprint, sku = sku, place = place, occurred_ms = occurred_ms, units = quantity,
    retention_ms = retention_ms,
  }, result, string_sub(request, QUANTITY_AT))
  return result
end

local function movement(keys, args)
  begin_batch(keys[1], keys[2], keys[3], keys[4], keys[5], keys[8])
  begin_facts(keys[6], keys[11])
  local retention_ms, ids, asked, names = tonumber(args[1]), {}, {}, {}
  for i = 2, #args do
    local id, place, sku = unpack_struct('<c12xxxxxxxxxxxxxxxxxxxxxBc0Hc0', args[i])
    ids[i - 1], asked[i], names[i - 1] = id, want_card(sku), sku .. place
  end
  load_operations(ids)
  read_cards()
  read_positions(keys[9], names, FACT.counts)
  read_positions(keys[10], names, FACT.conditions)
  local answer = begin_answer(#args - 1)
  for i = 2, #args do
    answer[i + 2] = decide_movement(args[i], asked[i], retention_ms)
  end
  end_answer(answer)
  --@writes
  write_batch()
  for location, count in pairs(FACT.new_positions) do
    redis.call('HINCRBY', keys[7], location, count)
  end
  for name, conditions in pairs(FACT.new_conditions) do
    if conditions == '' then
      redis.call('HDEL', keys[10], name)
    else
      redis.call('HSET', keys[10], name, conditions)
    end
  end
  return answer
end
