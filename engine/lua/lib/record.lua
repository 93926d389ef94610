-- A remembered operation: one field of the partition's operations hash, under the operation's 12-byte
-- id. The first byte tells the kind. A reservation's record is also the memory of the reserve that
-- made it, so that one look-up answers "have we seen this id?".
--
-- Reservation: kind (1) | size (3) | id (12) | fingerprint (8) | ttl (4) | route (2) | plan | what only the caller
-- reads | blocks | progress | head. All before the blocks is what the caller sent; when it is made it is the
-- event as well, and the size is the event's. What is behind is found from the end:
--   plan: size (2) | positions (1) | positions of { quantity (5), place (1 + n), SKU (2 + n) }
--   blocks: for each position the block of its card that has its claim (3)
--   progress: for each position held, committed, fulfilled, released (5 each); what is missing has lapsed.
--     There is none while all units are in one state.
--   head: created seq, changed seq (7 each) | deadline, created (6 each) | created epoch, changed epoch,
--     revision (2 each) | positions with progress, state, held_end, closed_by (1 each)
-- Progress and head together are the tail: what a caller that knows the rest is told.
--
-- A reservation over several partitions is a basket on its home partition, with the plan of them all, and on
-- each partition a part, with the lines that lie there. Both have the form of a reservation. A basket has no
-- claims: its blocks are zeros. What only the caller reads of a part is the version of the basket that
-- the part follows: epoch (2), seq (7); then terms, where it has some, and a byte where it has more than its basket, for
-- what that may get (offer.lua).
--
-- Bound key: kind (1) | how many asked (1) | fingerprint (8) | until when (6).
local KIND = { RESERVATION = 1, OPERATION = 2, MOVEMENT = 3, BOUND = 4, BASKET = 10, PART = 11 }
-- A basket alone is pending, while its parts are sought, or abandoned, where they were not all there.
local STATE = {
  HELD = 1, COMMITTED = 2, FULFILLED = 3, RELEASED = 4, EXPIRED = 5, CANCELLED = 6, PENDING = 7, ABANDONED = 8,
}
-- 1, 10 and 11 are what begins a record: its event is the record itself.
local VERB = {
  NONE = 0, COMMIT = 2, RELEASE = 3, EXTEND = 4, FULFIL = 5, CANCEL = 6, EXPIRE = 7, MOVEMENT = 8, SETTING = 9,
  DECIDE = 12, ABANDON = 13, FOLLOW = 14, CARRY = 15, REPLANNED = 16, POLICY = 17, FENCE = 18, SUPPLY = 19,
  DOCUMENT = 20, COUNT = 21, OPENING = 22, SPREAD = 23,
}

local HEAD_FORMAT, HEAD_SIZE = '<I7I7I6I6HHHBBBB', 36
local PROGRESS_SIZE, BLOCK_NUMBER_SIZE = 20, 3
local AT = { ID = 5, FINGERPRINT = 17, ROUTE = 29 }
local PLAN_AT, POSITIONS_AT = 31, 34
local POSITION_FORMAT = '<I5Bc0Hc0'
local DELTA_FORMAT = '<i6i6i6' -- of an event: held, allocated, on_hand of a position
local OPERATION_SIZE = 12
local UNKNOWN_REVISION = 65535 -- of a record that the caller does not know
local NO_OPERATION = '\0\0\0\0\0\0\0\0\0\0\0\0'
local NO_FINGERPRINT = '\0\0\0\0\0\0\0\0' -- of a request whose operation names its caller alone, and is not remembered

local function decode_head(raw)
  local created_seq, changed_seq, deadline_ms, created_ms, created_epoch, changed_epoch, revision,
    progress, state, held_end, closed_by = unpack_struct(HEAD_FORMAT, raw, #raw - HEAD_SIZE + 1)
  return {
    created_seq = created_seq, changed_seq = changed_seq, deadline_ms = deadline_ms,
    created_ms = created_ms, created_epoch = created_epoch, changed_epoch = changed_epoch,
    revision = revision, progress = progress, state = state, held_end = held_end, closed_by = closed_by,
  }
end

local function encode_head(head)
  return pack(HEAD_FORMAT, head.created_seq, head.changed_seq, head.deadline_ms, head.created_ms,
    head.created_epoch, head.changed_epoch, head.revision, head.progress, head.state, head.held_end,
    head.closed_by)
end

-- Whether a record is of a basket that was abandoned: nothing came of it, and its id is free.
local function is_abandoned(raw)
  return raw and string_byte(raw) == KIND.BASKET and string_byte(raw, #raw - 2) == STATE.ABANDONED
end

-- The units of each position by state. Units in none of the four have lapsed.
local function decode_progress(raw, head, quantities)
  local units = { held = {}, committed = {}, fulfilled = {}, released = {} }
  local state, cursor = head.state, #raw - HEAD_SIZE - head.progress * PROGRESS_SIZE + 1
  for i = 1, #quantities do
    local held, committed, fulfilled, released = 0, 0, 0, 0
    if head.progress > 0 then
      held, committed, fulfilled, released, cursor = unpack_struct('<I5I5I5I5', raw, cursor)
    elseif state == STATE.HELD or state == STATE.PENDING then
      held = quantities[i]
    elseif state == STATE.COMMITTED then
      committed = quantities[i]
    elseif state == STATE.FULFILLED then
      fulfilled = quantities[i]
    elseif state ~= STATE.EXPIRED then
      released = quantities[i]
    end
    units.held[i], units.committed[i] = held, committed
    units.fulfilled[i], units.released[i] = fulfilled, released
  end
  return units
end

-- Where a record's block numbers begin.
local function blocks_at(raw, progress)
  return #raw - HEAD_SIZE - progress * PROGRESS_SIZE
    - string_byte(raw, POSITIONS_AT - 1) * BLOCK_NUMBER_SIZE + 1
end

-- The tail of a record: its progress and its head.
local function tail_of(raw)
  local progress = string_byte(raw, #raw - 3)
  return string_sub(raw, #raw - HEAD_SIZE - progress * PROGRESS_SIZE + 1)
end

-- The ids of an entry of the deadline index: a kind, then ids of 12 bytes.
local function split_ids(entry)
  local ids = {}
  for at = 2, #entry, OPERATION_SIZE do
    ids[#ids + 1] = string_sub(entry, at, at + OPERATION_SIZE - 1)
  end
  return ids
end
