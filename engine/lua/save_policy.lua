-- Writes the policy of a position: how many units stay out of sale, how many may be promised that are not there, and
-- from how many on the stock is low. Makes the position where there is none. Where it is deleted, defaults hold again.
--@verb save_policy
--@flags
--@include builtins state clock card claims record batch places defaults
--@key meta inv:{p}:meta hash rw
--@key operations inv:{p}:ops hash r
--@key log inv:{p}:log stream w
--@key stock inv:{p}:stock hash rw
--@key locations inv:{p}:locations hash r
--@key stocked inv:{p}:stocked hash rw
--@key defaults inv:{p}:defaults hash r
--@arg request... caller(3) place(1 + n) sku(2 + n), then safety stock, backorder limit and low-stock band (I7 each): none
--  to delete. `caller` is the mark of who asks, zeros for nobody
--@answer location_not_found [word, seq]
--@answer policy_not_found [word, seq]: there is none that could be deleted
--@answer unchanged [word, seq]
--@answer saved integer: the sequence of the effect
--@event policy caller(3) place(1 + n) sku(2 + n) safety_stock(I7) backorder_limit(I7) low_stock(I7) is_own(B)

local added_positions -- location -> how many this call makes there

-- The index of the position, made where there is none; nil where the location does not exist.
local function find_or_make(locations, card, place)
  local position, location = load_position(card, place), string_sub(place, 2, -2)
  if not position and redis.call('HEXISTS', locations, location) == 1 then
    position = make_position(card, place)
    added_positions[location] = (added_positions[location] or 0) + 1
  end
  return position
end

local function decide_policy(keys, request, card)
  local caller, place, sku, cursor = unpack_struct('<c3Bc0Hc0', request)
  local known = load_position(card, place)
  if cursor > #request then
    if not known or not DEFAULTS.is_own(known) then
      return { 'policy_not_found', last_seq }
    end
    return DEFAULTS.write(known, place, sku, DEFAULTS.read(keys[7], place, sku), false, caller)
  end
  local numbers = { unpack_struct('<I7I7I7', request, cursor) }
  if known and DEFAULTS.has(known, numbers, true) then
    return { 'unchanged', last_seq }
  end
  local position = find_or_make(keys[5], card, place)
  if not position then
    return { 'location_not_found', last_seq }
  end
  return DEFAULTS.write(position, place, sku, numbers, true, caller)
end

local function save_policy(keys, args)
  begin_batch(keys[1], keys[2], nil, keys[3], keys[4])
  added_positions = {}
  local asked = {}
  for i = 1, #args do
    local _, _, sku = unpack_struct('<c3Bc0Hc0', args[i])
    asked[i] = want_card(sku)
  end
  read_cards()
  local answer = begin_answer(#args)
  for i = 1, #args do
    answer[i + 3] = decide_policy(keys, args[i], asked[i])
  end
  end_answer(answer)
  --@writes
  write_batch()
  for location, count in pairs(added_positions) do
    redis.call('HINCRBY', keys[6], location, count)
  end
  return answer
end
