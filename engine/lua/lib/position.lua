-- A position: the counters of one SKU at one location, one field of the SKU's hash.
-- Stored as 4 integers (the usual case) or 8 (once a policy is set), each in 4 bytes or, when one of
-- them needs it, in 7 (good for 3.6e16, our bound is 1e15). The length alone tells which.
--
-- A batch keeps the positions that it has read in parallel arrays, one index a position: tables of
-- their own would be the dearest part of a reserve. `policy` has a table where there is a policy.
local SAFETY_STOCK, BACKORDER_LIMIT, FENCED, LOW_STOCK = 1, 2, 3, 4
local NARROW, WIDE = '<i4i4i4i4', '<i7i7i7i7'
local NARROW_POLICY, WIDE_POLICY = '<i4i4i4i4i4i4i4i4', '<i7i7i7i7i7i7i7i7'
local NARROW_SIZE, WIDE_SIZE, NARROW_POLICY_SIZE = 16, 28, 32

local function keep_position(batch, key, location, packed)
  local index = batch.position_count + 1
  batch.position_count = index
  batch.keys[index], batch.locations[index] = key, location
  local size = #packed
  if size <= WIDE_SIZE then
    batch.on_hand[index], batch.held[index], batch.allocated[index], batch.unsellable[index] =
      unpack_struct(size == NARROW_SIZE and NARROW or WIDE, packed)
  else
    local policy = {}
    batch.on_hand[index], batch.held[index], batch.allocated[index], batch.unsellable[index],
      policy[1], policy[2], policy[3], policy[4] =
      unpack_struct(size == NARROW_POLICY_SIZE and NARROW_POLICY or WIDE_POLICY, packed)
    batch.policy[index] = policy
  end
  return index
end

-- The index of a position, read at most once a batch; false where the location does not stock the SKU.
local function load_position(batch, key, location)
  local place = key .. '\n' .. location
  local index = batch.index[place]
  if index == nil then
    local packed = redis.call('HGET', key, location)
    index = packed and keep_position(batch, key, location, packed)
    batch.index[place] = index
  end
  return index
end

local function is_wide(n)
  return n > 2147483647 or n < -2147483648
end

local function encode_position(batch, i)
  local a, b, c, d = batch.on_hand[i], batch.held[i], batch.allocated[i], batch.unsellable[i]
  local wide = is_wide(a) or is_wide(b) or is_wide(c) or is_wide(d)
  local policy = batch.policy[i]
  if not policy then
    return pack(wide and WIDE or NARROW, a, b, c, d)
  end
  local e, f, g, h = policy[1], policy[2], policy[3], policy[4]
  wide = wide or is_wide(e) or is_wide(f) or is_wide(g) or is_wide(h)
  return pack(wide and WIDE_POLICY or NARROW_POLICY, a, b, c, d, e, f, g, h)
end

local function backorder_limit(batch, i)
  local policy = batch.policy[i]
  return policy and policy[BACKORDER_LIMIT] or 0
end

-- What may still be promised before the backorder limit is touched; negative when over-promised.
local function free_units(batch, i)
  local free = batch.on_hand[i] - batch.unsellable[i] - batch.allocated[i] - batch.held[i]
  local policy = batch.policy[i]
  return policy and free - policy[SAFETY_STOCK] - policy[FENCED] or free
end

local function fits(batch, i, quantity)
  return free_units(batch, i) + backorder_limit(batch, i) >= quantity
end

-- The number that we show: never below what may be back-ordered.
local function available_units(batch, i)
  return math_max(free_units(batch, i), -backorder_limit(batch, i))
end

-- Units promised beyond what is there: above zero only where a fact took stock away.
local function uncovered_units(batch, i)
  return math_max(0, batch.held[i] + batch.allocated[i]
    - (batch.on_hand[i] - batch.unsellable[i] + backorder_limit(batch, i)))
end
