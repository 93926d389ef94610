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

-- The change from nothing to a part that begins, with these lines of its plan.
function OFFERS.open_new(id, args, lines)
  local change = { id = id, before = {}, lines = lines, moves = {}, terms = TERMS.read(args) }
  REPLAN.load(lines)
  for i = 1, #lines do
    local line = lines[i]
    line.held, line.committed = line.quantity, 0
    change.moves[i] = {
      after = line, index = i, position = line.position, place = line.place, sku = line.sku, held = line.quantity,
      allocated = 0,
    }
  end
  return change
end

-- How many units may be promised at a position if what is inbound is, too: the rule of ROOMS.inbound_room, but for
-- buffers, of which only the plan of a basket knows.
function OFFERS.room_with_inbound(position, place, sku, channel)
  local room, policy = TERMS.room(position, place, sku, channel), policy_of[position]
  local free = free_units(position) + backorder_limit(position)
  local fence = policy and free > 0 and TERMS.fence(position, place, sku, channel)
  if not policy or fence and fence.spill == 0 then
    return room
  end
  return math_max(0, room) + math_max(0, policy[POLICY.INBOUND] - policy[POLICY.PREORDERED] + math_min(0, free))
end

-- Counts units of a part that begins as promised of what is inbound, as far as there is no room for them.
function OFFERS.preorder(change)
  for i = 1, #change.moves do
    local move = change.moves[i]
    local policy = policy_of[move.position]
    if policy then
      local room = TERMS.room(move.position, move.place, move.sku, change.terms and change.terms.channel or '')
      policy[POLICY.PREORDERED] = policy[POLICY.PREORDERED] + math_max(0, move.held - math_max(0, room))
    end
  end
end

-- Holds the lines of a part that begins; `front` is its record as far as the caller makes it.
function OFFERS.begin(change, front)
  REPLAN.shift(change, change.terms)
  local blocks, seq = REPLAN.claim(change), next_sequence()
  local look_ms = now_ms + unpack_struct('<I4', front, AT.FINGERPRINT + 8)
  local record = front .. blocks .. pack(HEAD_FORMAT, seq, seq, look_ms, now_ms, epoch_now, epoch_now, 0, 0,
    STATE.HELD, VERB.NONE, VERB.NONE)
  remember_operation(change.id, record)
  add_event(record)
  repairs[change.id] = look_ms
end
