-- A position: the counters of one SKU at one location, one field of the SKU's hash.
-- Stored as 4 integers (the usual case) or 8 (once a policy is set), each in 4 bytes or, when one of
-- them needs it, in 7 (good for 3.6e16, our bound is 1e15). The length alone tells which.
--
-- A call keeps the positions that it has read in parallel arrays (lib/state.lua), one index a position;
-- `policy_of` has a table where there is a policy.
local SAFETY_STOCK, BACKORDER_LIMIT, FENCED, LOW_STOCK = 1, 2, 3, 4
local NARROW, WIDE = '<i4i4i4i4', '<i7i7i7i7'
local NARROW_POLICY, WIDE_POLICY = '<i4i4i4i4i4i4i4i4', '<i7i7i7i7i7i7i7i7'
local NARROW_SIZE, WIDE_SIZE, NARROW_POLICY_SIZE = 16, 28, 32

local function keep_position(key, location, packed)
  local index = position_count + 1
  position_count = index
  key_of[index], place_of[index] = key, location
  local size = #packed
  if size <= WIDE_SIZE then
    hand_of[index], held_of[index], allocated_of[index], unsellable_of[index] =
      unpack_struct(size == NARROW_SIZE and NARROW or WIDE, packed)
  else
    local policy = {}
    hand_of[index], held_of[index], allocated_of[index], unsellable_of[index],
      policy[1], policy[2], policy[3], policy[4] =
      unpack_struct(size == NARROW_POLICY_SIZE and NARROW_POLICY or WIDE_POLICY, packed)
    policy_of[index] = policy
  end
  return index
end

-- The index of a position, read at most once a batch; false where the location does not stock the SKU.
local function load_position(key, location)
  local place = key .. '\n' .. location
  local index = index_of[place]
  if index == nil then
    local packed = redis.call('HGET', key, location)
    index = packed and keep_position(key, location, packed)
    index_of[place] = index
  end
  return index
end

-- Whether one of four numbers needs more than 4 bytes.
local function are_wide(a, b, c, d)
  return a > 2147483647 or b > 2147483647 or c > 2147483647 or d > 2147483647
    or a < -2147483648 or b < -2147483648 or c < -2147483648 or d < -2147483648
end

local function encode_position(i)
  local a, b, c, d = hand_of[i], held_of[i], allocated_of[i], unsellable_of[i]
  local wide, policy = are_wide(a, b, c, d), policy_of[i]
  if not policy then
    return pack(wide and WIDE or NARROW, a, b, c, d)
  end
  local e, f, g, h = policy[1], policy[2], policy[3], policy[4]
  wide = wide or are_wide(e, f, g, h)
  return pack(wide and WIDE_POLICY or NARROW_POLICY, a, b, c, d, e, f, g, h)
end

local function backorder_limit(i)
  local policy = policy_of[i]
  return policy and policy[BACKORDER_LIMIT] or 0
end

-- What may still be promised before the backorder limit is touched; negative when over-promised.
local function free_units(i)
  local free = hand_of[i] - unsellable_of[i] - allocated_of[i] - held_of[i]
  local policy = policy_of[i]
  return policy and free - policy[SAFETY_STOCK] - policy[FENCED] or free
end

local function fits(i, quantity)
  return free_units(i) + backorder_limit(i) >= quantity
end

-- The number that we show: never below what may be back-ordered.
local function available_units(i)
  return math_max(free_units(i), -backorder_limit(i))
end

-- Units promised beyond what is there: above zero only where a fact took stock away.
local function uncovered_units(i)
  return math_max(0, held_of[i] + allocated_of[i]
    - (hand_of[i] - unsellable_of[i] + backorder_limit(i)))
end
