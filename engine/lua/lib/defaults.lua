-- The policy that holds at a position without one of its own: what its item says, else what its location says, else
-- nothing. The hash of defaults has it by class and id of the setting: safety stock, backorder limit and low-stock
-- band (I7 each), ABSENT where the setting says nothing of it. A position has its numbers on its card like any other;
-- the flag OWN_POLICY tells that a caller wrote them, so that a change of defaults leaves them alone.
local DEFAULTS = {
  FORMAT = '<I7I7I7', ABSENT = 9007199254740991, NOBODY = '\0\0\0',
  COLUMNS = { POLICY.SAFETY_STOCK, POLICY.BACKORDER_LIMIT, POLICY.LOW_STOCK }, -- as requests and events have them
}

function DEFAULTS.read(key, place, sku)
  local stored, numbers = redis.call('HMGET', key, '4\n' .. sku, '1\n' .. string_sub(place, 2, -2)), { 0, 0, 0 }
  for i = 2, 1, -1 do
    local found = stored[i] and { unpack_struct(DEFAULTS.FORMAT, stored[i]) } or {}
    for column = 1, 3 do
      if found[column] and found[column] < DEFAULTS.ABSENT then
        numbers[column] = found[column]
      end
    end
  end
  return numbers
end

-- Whether the policy of a position is its own.
function DEFAULTS.is_own(position)
  local policy = policy_of[position]
  return policy and policy[POLICY.FLAGS] % (2 * POLICY.OWN_POLICY) >= POLICY.OWN_POLICY or false
end

-- Whether a position has these numbers, as its own or not.
function DEFAULTS.has(position, numbers, is_own)
  local policy = policy_of[position]
  local is_same = DEFAULTS.is_own(position) == is_own
  for i = 1, 3 do
    is_same = is_same and (policy and policy[DEFAULTS.COLUMNS[i]] or 0) == numbers[i]
  end
  return is_same
end

-- Gives a position numbers that it has not, and tells so, and who asked for it: `caller`, or DEFAULTS.NOBODY.
function DEFAULTS.write(position, place, sku, numbers, is_own, caller)
  POLICY.add(card_of(position))
  local policy, was_own = policy_of[position], DEFAULTS.is_own(position)
  for i = 1, 3 do
    policy[DEFAULTS.COLUMNS[i]] = numbers[i]
  end
  policy[POLICY.FLAGS] = policy[POLICY.FLAGS] + ((is_own and 1 or 0) - (was_own and 1 or 0)) * POLICY.OWN_POLICY
  POLICY.settle(position)
  mark_changed(position)
  local body = caller .. pack('<B', #place) .. place .. pack('<H', #sku) .. sku
    .. pack('<I7I7I7B', numbers[1], numbers[2], numbers[3], is_own and 1 or 0)
  add_event(pack('<BI3', VERB.POLICY, #body) .. body)
  return next_sequence()
end

-- Brings a position without a policy of its own to its defaults; the sequence of the effect, where there is one.
function DEFAULTS.inherit(key, position, place, sku)
  if DEFAULTS.is_own(position) then
    return nil
  end
  local numbers = DEFAULTS.read(key, place, sku)
  if DEFAULTS.has(position, numbers, false) then
    return nil
  end
  return DEFAULTS.write(position, place, sku, numbers, false, DEFAULTS.NOBODY)
end
