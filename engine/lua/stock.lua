-- The counters of a SKU's positions, as they stand in the books.
--@verb stock
--@flags no-writes
--@include builtins state clock position batch stock
--@key meta inv:{p}:meta hash r
--@key due inv:{p}:due zset r
--@key stock... inv:{p}:sku:<sku> hash r: one for each request
--@arg request... swept(B), then the asked locations of { location (1 + n) }: none for all
--@answer sku_not_found [word, seq]
--@answer overdue [word]: as in availability
--@answer stock [seq, location, on_hand, held, allocated, unsellable, safety_stock, backorder_limit,
--  fenced, low_stock, available, ...]
local NO_POLICY = { 0, 0, 0, 0 }

local function read_stock(key, request)
  local locations, places, known = asked_locations(key, request, 2)
  if not known then
    return { 'sku_not_found', last_seq }
  end
  if string_byte(request) == 0 and has_overdue() then
    return { 'overdue' }
  end
  local listed = { last_seq }
  for i = 1, #locations do
    local place = places[locations[i]]
    if place then
      local n, policy = #listed, policy_of[place] or NO_POLICY
      listed[n + 1] = locations[i]
      listed[n + 2], listed[n + 3] = hand_of[place], held_of[place]
      listed[n + 4], listed[n + 5] = allocated_of[place], unsellable_of[place]
      for j = 1, 4 do
        listed[n + 5 + j] = policy[j]
      end
      listed[n + 10] = available_units(place)
    end
  end
  return listed
end

local function stock(keys, args)
  begin_batch(keys[1], nil, keys[2])
  local answer = begin_answer()
  for i = 1, #args do
    answer[i + 2] = read_stock(keys[i + 2], args[i])
  end
  --@writes
  return answer
end
