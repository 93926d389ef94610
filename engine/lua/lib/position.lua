-- A position: the counters of one SKU at one location, one field of the SKU's hash.
-- Stored as 4 integers (the usual case) or 8 (once a policy is set), each in 4 bytes or, when one of
-- them needs it, in 7 (good for 3.6e16, our bound is 1e15). The length alone tells which.
local ON_HAND, HELD, ALLOCATED, UNSELLABLE = 1, 2, 3, 4
local SAFETY_STOCK, BACKORDER_LIMIT, FENCED, LOW_STOCK = 5, 6, 7, 8

local POSITION_FORMAT = {
  [16] = '<i4i4i4i4',
  [28] = '<i7i7i7i7',
  [32] = '<i4i4i4i4i4i4i4i4',
  [56] = '<i7i7i7i7i7i7i7i7',
}

local function decode_position(packed)
  local size = #packed
  local a, b, c, d, e, f, g, h = unpack_struct(POSITION_FORMAT[size], packed)
  if size <= 28 then
    return { a, b, c, d, 0, 0, 0, 0 }
  end
  return { a, b, c, d, e, f, g, h }
end

local function encode_position(position)
  local a, b, c, d = position[1], position[2], position[3], position[4]
  local e, f, g, h = position[5], position[6], position[7], position[8]
  local low = math_min(a, b, c, d, e, f, g, h)
  local high = math_max(a, b, c, d, e, f, g, h)
  local narrow = low >= -2147483648 and high <= 2147483647
  if e == 0 and f == 0 and g == 0 and h == 0 then
    return pack(narrow and '<i4i4i4i4' or '<i7i7i7i7', a, b, c, d)
  end
  return pack(narrow and '<i4i4i4i4i4i4i4i4' or '<i7i7i7i7i7i7i7i7', a, b, c, d, e, f, g, h)
end

-- What may still be promised before the backorder limit is touched; negative when over-promised.
local function free_units(position)
  return position[ON_HAND] - position[UNSELLABLE] - position[ALLOCATED] - position[HELD]
    - position[SAFETY_STOCK] - position[FENCED]
end

-- The number that we show: never below what may be back-ordered.
local function available_units(position)
  return math_max(free_units(position), -position[BACKORDER_LIMIT])
end

-- Units promised beyond what is there: above zero only where a fact took stock away.
local function uncovered_units(position)
  return math_max(0, position[HELD] + position[ALLOCATED]
    - (position[ON_HAND] - position[UNSELLABLE] + position[BACKORDER_LIMIT]))
end
