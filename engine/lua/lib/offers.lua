-- Parts that have more than their basket, for what it may get: see offer.lua. A byte behind the terms says so.
local OFFERS = { OFFERED = '\1' }

-- Where the caller's part of a record, or of a request for one, has its last byte if it has no such mark.
function OFFERS.rest_end(raw)
  local at = PLAN_AT + 2 + unpack_struct('<H', raw, PLAN_AT) + 9
  return string_byte(raw, at) == TERMS.MARK and at + 1 + string_byte(raw, at + 1) or at - 1
end

function OFFERS.is_offered(raw)
  return blocks_at(raw, string_byte(raw, #raw - 3)) > OFFERS.rest_end(raw) + 1
end

-- The version that a part follows from now on, with the terms it has.
function OFFERS.rest(raw, epoch, seq)
  return TERMS.keep(raw, pack('<HI7', epoch, seq))
end
