-- The counters of a SKU's positions, as they stand in the books.
--@verb stock
--@flags no-writes
--@include builtins clock position record batch stock
--@key meta inv:{p}:meta hash r
--@key due inv:{p}:due zset r
--@key stock... inv:{p}:sku:<sku> hash r: one for each request
--@arg request... swept(B), then the asked locations of { location (1 + n) }: none for all
--@answer overdue [word]: as in availability
--@answer sku_not_found [word, seq]
--@answer stock [seq, location, on_hand, held, allocated, unsellable, safety_stock, backorder_limit,
--  fenced, low_stock, available, ...]
local function read_stock(batch, key, request)
  local locations, places, known = asked_locations(batch, key, request, 2)
  if not known then
    return { 'sku_not_found', batch.seq }
  end
  if string_byte(request) == 0 and has_overdue(batch) then
    return { 'overdue' }
  end
  local listed = { batch.seq }
  for i = 1, #locations do
    local position = places[locations[i]]
    if position then
      local n = #listed
      listed[n + 1] = locations[i]
      for j = 1, 8 do
        listed[n + 1 + j] = position[j]
      end
      listed[n + 10] = available_units(position)
    end
  end
  return listed
end

local function stock(keys, args)
  local batch = begin_batch(keys[1], nil, keys[2])
  local answer = begin_answer(batch)
  for i = 1, #args do
    answer[i + 2] = read_stock(batch, keys[i + 2], args[i])
  end
  --@writes
  return answer
end
