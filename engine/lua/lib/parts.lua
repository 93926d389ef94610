-- Parts of baskets: the lines of one partition.

-- The epoch and the sequence of the basket that a part follows, of a part's record or of a request for one.
local function followed_by(raw)
  return unpack_struct('<HI7', raw, PLAN_AT + 2 + unpack_struct('<H', raw, PLAN_AT))
end

-- The id of a part's basket, given the part's own and its record: the route and one more are what is between them.
local function basket_id(id, raw)
  local number = unpack_struct('<I3', id, OPERATION_SIZE - 2) - unpack_struct('<H', raw, AT.ROUTE) - 1
  return string_sub(id, 1, OPERATION_SIZE - 3) .. pack('<I3', number % 16777216)
end
