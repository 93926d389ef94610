-- Writes the policy of a position: how many units stay out of sale, how many may be promised that are not there, and
-- from how many on the stock is low. Makes the position where there is none.
--@verb save_policy
--@flags
--@include builtins state clock card claims record batch places
--@key meta inv:{p}:meta hash rw
--@key operations inv:{p}:ops hash r
--@key log inv:{p}:log stream w
--@key stock inv:{p}:stock hash rw
--@key locations inv:{p}:locations hash r
--@key stocked inv:{p}:stocked hash rw
--@arg request... place(1 + n) sku(2 + n), then safety stock, backorder limit and low-stock band (I7 each): none
--  to delete
--@answer location_not_found [word, seq]
--@answer policy_not_found [word, seq]: there is none that could be deleted
--@answer unchanged [word, seq]
--@answer saved integer: the sequence of the effect
--@event policy place(1 + n) sku(2 + n) safety_stock(I7) backorder_limit(I7) low_stock(I7)

local added_positions -- location -> how many this call makes there
local COLUMNS = { POLICY.SAFETY_STOCK, POLICY.BACKORDER_LIMIT, POLICY.LOW_STOCK } -- as requests have them

-- Whether the wanted numbers are those of the policy, and whether those are all zero.
local function compare_policy(policy, wanted)
  local is_same, is_none = true, true
  for i = 1, #COLUMNS do
    local number = policy and policy[COLUMNS[i]] or 0
    is_same = is_same and number == wanted[i]
    is_none = is_none and number == 0
  end
  return is_same, is_none
end

-- The index of the position, made where there is none; nil where the location does not exist.
local function find_or_make(locations, card, place)
  local position, location = load_position(card, place), string_sub(place, 2, -2)
  if not position and redis.call('HEXISTS', locations, location) == 1 then
    position = make_position(card, place)
    added_positions[location] = (added_positions[location] or 0) + 1
    mark_changed(position)
  end
  return position
end

local function decide_policy(locations, request, card)
  local place, _, cursor = unpack_struct('<Bc0Hc0', request)
  local deletes, wanted = cursor > #request, { 0, 0, 0 }
  if not deletes then
    wanted[1], wanted[2], wanted[3] = unpack_struct('<I7I7I7', request, cursor)
  end
  local known = load_position(card, place)
  local is_same, is_none = compare_policy(known and policy_of[known], wanted)
  if deletes and is_none then
    return { 'policy_not_found', last_seq }
  elseif known and is_same then
    return { 'unchanged', last_seq }
  end
  local position = find_or_make(locations, card, place)
  if not position then
    return { 'location_not_found', last_seq }
  end
  if not is_same then
    POLICY.add(card_of(position))
    for i = 1, #COLUMNS do
      policy_of[position][COLUMNS[i]] = wanted[i]
    end
    POLICY.settle(position)
    mark_changed(position)
  end
  local body = string_sub(request, 1, cursor - 1) .. pack('<I7I7I7', wanted[1], wanted[2], wanted[3])
  add_event(pack('<BI3', VERB.POLICY, #body) .. body)
  return next_sequence()
end

local function save_policy(keys, args)
  begin_batch(keys[1], keys[2], nil, keys[3], keys[4])
  added_positions = {}
  local asked = {}
  for i = 1, #args do
    local _, sku = unpack_struct('<Bc0Hc0', args[i])
    asked[i] = want_card(sku)
  end
  read_cards()
  local answer = begin_answer(#args)
  for i = 1, #args do
    answer[i + 3] = decide_policy(keys[5], args[i], asked[i])
  end
  end_answer(answer)
  --@writes
  write_batch()
  for location, count in pairs(added_positions) do
    redis.call('HINCRBY', keys[6], location, count)
  end
  return answer
end
