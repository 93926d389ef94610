-- Begins positions as another data set left them: counters, the newest count, conditions, history.
--@verb opening
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
--@key counts inv:{p}:counts hash w
--@key conditions inv:{p}:conditions hash w
--@arg request... on_hand(i7: so many more) preordered(I6) place(1 + n) sku(2 + n) count(1 + n) conditions(2 + n), as they are kept;
--  rows(H) of { occurred_ms(I6) id(12) units(i7) detail(2 + n) }: the history, with what only the caller reads
--@answer opened integer: the sequence of the effect
--@event opening the request

local function open_position(request, card)
  local change, preordered, place, sku, count, conditions, rows, at = unpack_struct('<i7I6Bc0Hc0Bc0Hc0H', request)
  local name, position = sku .. place, take_position(load_position(card, place), card, place)
  hand_of[position] = hand_of[position] + change
  if count ~= '' then
    FACT.new_counts[name] = count
  end
  if conditions ~= '' then
    FACT.new_conditions[name] = conditions
    local cursor = 1
    while cursor <= #conditions do
      local size, units
      size = string_byte(conditions, cursor)
      units, cursor = unpack_struct('<i7', conditions, cursor + size + 1)
      unsellable_of[position] = unsellable_of[position] + math_max(0, units)
    end
  end
  if preordered > 0 then
    POLICY.add(card_of(position))
    policy_of[position][POLICY.PREORDERED] = policy_of[position][POLICY.PREORDERED] + preordered
  end
  POLICY.settle(position)
  mark_changed(position)
  next_sequence()
  for _ = 1, rows do
    local occurred_ms, id, units, size, detail_at = unpack_struct('<I6c12i7H', request, at)
    at = detail_at + size
    MOVES.add(sku, place, occurred_ms, last_seq, id, units)
  end
  add_event(pack('<BI3', VERB.OPENING, #request) .. request)
  return last_seq
end

local function opening(keys, args)
  begin_batch(keys[1], keys[2], keys[3], keys[4], keys[5], keys[8])
  begin_facts(keys[6])
  local asked = {}
  for i = 1, #args do
    local _, _, _, sku = unpack_struct('<i7I6Bc0Hc0', args[i])
    asked[i] = want_card(sku)
  end
  read_cards()
  local answer = begin_answer(#args)
  for i = 1, #args do
    answer[i + 3] = open_position(args[i], asked[i])
  end
  end_answer(answer)
  --@writes
  write_batch()
  for location, new in pairs(FACT.new_positions) do
    redis.call('HINCRBY', keys[7], location, new)
  end
  for name, count in pairs(FACT.new_counts) do
    redis.call('HSET', keys[9], name, count)
  end
  for name, conditions in pairs(FACT.new_conditions) do
    redis.call('HSET', keys[10], name, conditions)
  end
  return answer
end
