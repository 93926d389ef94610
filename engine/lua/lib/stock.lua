-- A SKU's hash: field '' lists the locations that stock it (each 1 + n bytes), a field named as a
-- location has its counters, a field `location \n reservation id` is an open claim of that reservation,
-- with its place in the order of promises.
local function decode_places(packed)
  local locations, cursor = {}, 1
  while cursor <= #packed do
    locations[#locations + 1], cursor = unpack_struct('<Bc0', packed, cursor)
  end
  return locations
end

-- The positions that a read asks for: the list of locations, location -> index of the position, and whether the SKU
-- is known at all. All positions are read by one call for each 1000 locations.
local function asked_locations(key, request, at)
  local locations = decode_places(string_sub(request, at))
  local known = #locations == 0 and redis.call('HGET', key, '')
  if known then
    locations = decode_places(known)
  end
  local places = {}
  for first = 1, #locations, 1000 do
    local last = math_min(first + 999, #locations)
    local packed = redis.call('HMGET', key, unpack_table(locations, first, last))
    for i = first, last do
      local found = packed[i - first + 1]
      places[locations[i]] = found and keep_position(key, locations[i], found)
      known = known or found
    end
  end
  return locations, places, known or redis.call('EXISTS', key) == 1
end
