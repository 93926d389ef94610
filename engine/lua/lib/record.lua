-- A remembered operation: one field of the partition's operations hash, under the operation's 12-byte
-- id. The first byte tells the kind. A reservation's record is also the memory of the reserve that
-- made it, so that one look-up answers "have we seen this id?".
--
-- Reservation: a header of HEADER_SIZE bytes, the progress (4 integers of 5 bytes a position: held,
-- committed, fulfilled, released; none while all units are in one state; what is missing has lapsed),
-- then the body as the caller packed it:
--   plan size (2 bytes) | SKUs (1) | positions (1) | positions of { slot (1), quantity (5),
--   location (1 + n) } | SKUs of { name (2 + n) } | what only the caller reads
-- A slot is the index of the position's SKU, and so of its key among the keys of the request.
local KIND_RESERVATION, KIND_OPERATION, KIND_MOVEMENT = 1, 2, 3
local STATE_HELD, STATE_COMMITTED, STATE_FULFILLED = 1, 2, 3
local STATE_RELEASED, STATE_EXPIRED, STATE_CANCELLED = 4, 5, 6
local VERB_NONE, VERB_RESERVE, VERB_COMMIT, VERB_RELEASE, VERB_EXTEND = 0, 1, 2, 3, 4
local VERB_FULFIL, VERB_CANCEL, VERB_EXPIRE, VERB_MOVEMENT, VERB_LOCATION = 5, 6, 7, 8, 9

local HEADER_FORMAT = '<BBBBHBHHI7I7I6I6c8'
local HEADER_SIZE = 45
local PROGRESS_SIZE = 20
local FINGERPRINT_AT = 38 -- of a reservation's record; 8 bytes
local DELTA_FORMAT = '<i6i6i6' -- of an event: held, allocated, on_hand of a position
local OPERATION_SIZE = 12
local NO_OPERATION = '\0\0\0\0\0\0\0\0\0\0\0\0'

local function decode_header(raw)
  local kind, state, held_end, closed_by, revision, progress, created_epoch, changed_epoch,
    created_seq, changed_seq, created_ms, deadline_ms, fingerprint = unpack_struct(HEADER_FORMAT, raw)
  return {
    kind = kind, state = state, held_end = held_end, closed_by = closed_by,
    revision = revision, progress = progress,
    created_epoch = created_epoch, changed_epoch = changed_epoch,
    created_seq = created_seq, changed_seq = changed_seq,
    created_ms = created_ms, deadline_ms = deadline_ms, fingerprint = fingerprint,
  }
end

local function encode_header(header)
  return pack(HEADER_FORMAT, header.kind, header.state, header.held_end, header.closed_by,
    header.revision, header.progress, header.created_epoch, header.changed_epoch,
    header.created_seq, header.changed_seq, header.created_ms, header.deadline_ms, header.fingerprint)
end

-- The positions of a body: arrays of slots, quantities and locations, and the plan's size in bytes.
local function decode_plan(raw, at)
  local size, _, count, cursor = unpack_struct('<HBB', raw, at)
  local slots, quantities, places = {}, {}, {}
  for i = 1, count do
    slots[i], quantities[i], places[i], cursor = unpack_struct('<BI5Bc0', raw, cursor)
  end
  return slots, quantities, places, size
end

-- The units of each position by state. Units in none of the four have lapsed.
local function decode_progress(raw, header, quantities)
  local units = { held = {}, committed = {}, fulfilled = {}, released = {} }
  local state, cursor = header.state, HEADER_SIZE + 1
  for i = 1, #quantities do
    local held, committed, fulfilled, released = 0, 0, 0, 0
    if header.progress > 0 then
      held, committed, fulfilled, released, cursor = unpack_struct('<I5I5I5I5', raw, cursor)
    elseif state == STATE_HELD then
      held = quantities[i]
    elseif state == STATE_COMMITTED then
      committed = quantities[i]
    elseif state == STATE_FULFILLED then
      fulfilled = quantities[i]
    elseif state ~= STATE_EXPIRED then
      released = quantities[i]
    end
    units.held[i], units.committed[i] = held, committed
    units.fulfilled[i], units.released[i] = fulfilled, released
  end
  return units
end

-- The names of a body's SKUs, by slot from 1 on.
local function decode_skus(raw, at)
  local _, count, positions, cursor = unpack_struct('<HBB', raw, at)
  local skus = {}
  for _ = 1, positions do
    cursor = select(4, unpack_struct('<BI5Bc0', raw, cursor))
  end
  for i = 1, count do
    skus[i], cursor = unpack_struct('<Hc0', raw, cursor)
  end
  return skus
end

-- The ids of an entry of the deadline index: a kind, then ids of 12 bytes.
local function split_ids(entry)
  local ids = {}
  for at = 2, #entry, 12 do
    ids[#ids + 1] = string_sub(entry, at, at + 11)
  end
  return ids
end
