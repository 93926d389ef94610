-- Entries of an index: a sorted set whose members all have one score, so that they stand in the order of their bytes.

-- Notes the entries of a list, and whether they shall be there; how many, and where it ends.
local function note_entries(wanted, request, at, is_there)
  local count, entry
  count, at = unpack_struct('<H', request, at)
  for _ = 1, count do
    entry, at = unpack_struct('<Bc0', request, at)
    wanted[entry] = is_there
  end
  return count, at
end

local function write_entries(key, wanted)
  local added, gone, size = {}, {}, 0
  for entry, is_there in pairs(wanted) do
    if is_there then
      added[size + 1], added[size + 2] = 0, entry
      size = size + 2
    else
      gone[#gone + 1] = entry
    end
  end
  for first = 1, size, 2000 do
    redis.call('ZADD', key, unpack_table(added, first, math_min(first + 1999, size)))
  end
  for first = 1, #gone, 1000 do
    redis.call('ZREM', key, unpack_table(gone, first, math_min(first + 999, #gone)))
  end
end
