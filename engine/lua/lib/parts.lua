-- Parts of baskets: the lines of one partition.

-- The epoch and the sequence of the basket that a part follows, of a part's record or of a request for one.
local function followed_by(raw)
  return unpack_struct('<HI7', raw, PLAN_AT + 2 + unpack_struct('<H', raw, PLAN_AT))
end

-- The id of a part, given its basket's, or of the basket, given that of a part: a part may stand beside it.
local function other_id(id)
  return string_sub(id, 1, OPERATION_SIZE - 1) .. pack('<B', 255 - string_byte(id, OPERATION_SIZE))
end
