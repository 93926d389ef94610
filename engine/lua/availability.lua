-- What can be promised now, per SKU and location.
--@verb availability
--@flags no-writes
--@include builtins state clock position batch stock
--@key meta inv:{p}:meta hash r
--@key due inv:{p}:due zset r
--@key stock... inv:{p}:sku:<sku> hash r: one for each request
--@arg request... swept(B), then the asked locations of { location (1 + n) }: none for all
--@answer sku_not_found [word, seq]
--@answer overdue [word]: holds have lapsed that are still counted; sweep, then repeat with swept = 1
--@answer available [seq, location, available, status, ...]: of the asked locations those that stock it

-- In the order of Status in engine/types.py.
local function position_status(place, available)
  local policy = policy_of[place]
  if available > (policy and policy[LOW_STOCK] or 0) then
    return 0
  elseif available > 0 then
    return 1
  end
  return fits(place, 1) and 3 or 2
end

local function read_availability(key, request)
  local locations, places, known = asked_locations(key, request, 2)
  if not known then
    return { 'sku_not_found', last_seq }
  end
  if string_byte(request) == 0 and has_overdue() then
    return { 'overdue' }
  end
  local listed, n = { last_seq }, 1
  for i = 1, #locations do
    local place = places[locations[i]]
    if place then
      local available = available_units(place)
      listed[n + 1], listed[n + 2] = locations[i], available
      listed[n + 3] = position_status(place, available)
      n = n + 3
    end
  end
  return listed
end

local function availability(keys, args)
  begin_batch(keys[1], nil, keys[2])
  local answer = begin_answer()
  for i = 1, #args do
    answer[i + 2] = read_availability(keys[i + 2], args[i])
  end
  --@writes
  return answer
end
