-- Moving the units of a reservation from state to state: what commit, release, extend, fulfil, cancel
-- and expire have in common.

-- Reads a request's reservation. Returns nil and a refusal where there is none, or where the caller
-- knew an older version of its lines (and so may have named the wrong keys).
local function open_reservation(id, revision)
  local raw = remembered[id]
  if not raw or string_byte(raw) ~= KIND_RESERVATION then
    return nil, { 'reservation_not_found', last_seq }
  end
  local header = decode_header(raw)
  if header.revision ~= revision then
    return nil, { 'stale' }
  end
  local body_at = HEADER_SIZE + header.progress * PROGRESS_SIZE + 1
  local slots, quantities, locations, plan_size = decode_plan(raw, body_at)
  return {
    id = id, header = header, raw = raw, body_at = body_at, plan_size = plan_size,
    slots = slots, quantities = quantities, locations = locations,
    units = decode_progress(raw, header, quantities), deltas = {},
  }
end

-- The answer to a repeat under a remembered operation id, or nil.
local function replay_operation(operation, verb, id, fingerprint)
  local prior = remembered[operation]
  if not prior then
    return nil
  end
  if string_byte(prior) == KIND_OPERATION then
    local _, prior_verb, prior_fingerprint, prior_id, at = unpack_struct('<BBc8c12', prior)
    if prior_verb == verb and prior_id == id and prior_fingerprint == fingerprint then
      return { 'replayed', string_sub(prior, at) }
    end
  end
  return { 'idempotency_mismatch' }
end

-- A repeat that needs no operation id: the reservation is already as asked, so answer as then.
local function repeat_answer(reservation)
  return { 'repeated', string_sub(reservation.raw, 1, reservation.body_at - 1) }
end

-- The quantities that a request asks for: the positions it chooses, or all there is in `source`.
-- Where a choice exceeds what is there, a refusal that names index and open units of each.
local function choose_units(request, at, source)
  local chosen, count, cursor = {}, unpack_struct('<B', request, at)
  for i = 1, #source do
    chosen[i] = count == 0 and source[i] or 0
  end
  local refusal
  for _ = 1, count do
    local index, quantity
    index, quantity, cursor = unpack_struct('<BI5', request, cursor)
    chosen[index + 1] = quantity
    if quantity > source[index + 1] then
      refusal = refusal or { 'exceeds_open_quantity', last_seq }
      local n = #refusal
      refusal[n + 1], refusal[n + 2] = index, source[index + 1]
    end
  end
  return chosen, refusal
end

local function chooses_all(request, at)
  return string_byte(request, at) == 0
end

local function sum_units(units)
  local total = 0
  for i = 1, #units do
    total = total + units[i]
  end
  return total
end

local function shift_units(units, column, i, quantity)
  units[column][i] = units[column][i] + quantity
end

-- Changes the counters of the reservation's i-th position. A position whose last open unit of this
-- reservation goes loses the claim; one that opens anew gets it.
local function change_counters(keys, base, reservation, i, held, allocated, on_hand)
  local place = load_position(keys[base + reservation.slots[i]], reservation.locations[i])
  held_of[place] = held_of[place] + held
  allocated_of[place] = allocated_of[place] + allocated
  hand_of[place] = hand_of[place] + on_hand
  mark_changed(place)
  reservation.deltas[i] = pack(DELTA_FORMAT, held, allocated, on_hand)
  local units = reservation.units
  if units.held[i] + units.committed[i] == 0 then
    end_claim(place, reservation.id)
  elseif held == 0 and allocated > 0 then
    add_claim(place, reservation.id, last_seq + 1)
  end
end

local REFUSAL_OF_STATE = {
  [STATE_HELD] = 'not_committed',
  [STATE_COMMITTED] = 'already_committed',
  [STATE_FULFILLED] = 'already_fulfilled',
  [STATE_RELEASED] = 'already_released',
  [STATE_EXPIRED] = 'reservation_expired',
  [STATE_CANCELLED] = 'already_cancelled',
}

-- Why a verb finds no units to work on.
local function refuse_by_state(reservation)
  return { REFUSAL_OF_STATE[reservation.header.state], last_seq }
end

-- The same for a verb that works on held units: a lapsed hold stays lapsed, whatever else was committed.
local function refuse_not_held(reservation)
  if reservation.header.held_end == VERB_EXPIRE then
    return { 'reservation_expired', last_seq }
  end
  return refuse_by_state(reservation)
end

-- Notes which verb took the last held and the last open unit.
local function note_end(reservation, verb)
  local header, units = reservation.header, reservation.units
  if sum_units(units.held) > 0 then
    return
  end
  if header.state == STATE_HELD or header.state == STATE_EXPIRED then
    header.held_end = verb
  end
  if sum_units(units.committed) == 0 then
    header.closed_by = verb
  end
end

-- The state that the units add up to.
local function settle_state(reservation)
  local header, units = reservation.header, reservation.units
  if sum_units(units.held) > 0 then
    header.state = STATE_HELD
  elseif sum_units(units.committed) > 0 then
    header.state = STATE_COMMITTED
  elseif sum_units(units.fulfilled) > 0 then
    header.state = STATE_FULFILLED
  elseif header.closed_by == VERB_CANCEL then
    header.state = STATE_CANCELLED
  elseif header.closed_by == VERB_EXPIRE then
    header.state = STATE_EXPIRED
  else
    header.state = STATE_RELEASED
  end
end

-- The progress of all positions, or '' while every unit is in the reservation's own state.
local function encode_progress(reservation)
  local header, quantities, units = reservation.header, reservation.quantities, reservation.units
  local parts = {}
  for i = 1, #quantities do
    parts[i] = pack('<I5I5I5I5', units.held[i], units.committed[i], units.fulfilled[i], units.released[i])
  end
  local progress = concat(parts)
  header.progress = 0
  local plain = decode_progress('', header, quantities)
  for i = 1, #quantities do
    if plain.held[i] ~= units.held[i] or plain.committed[i] ~= units.committed[i]
      or plain.fulfilled[i] ~= units.fulfilled[i] or plain.released[i] ~= units.released[i] then
      header.progress = #quantities
      return progress
    end
  end
  return ''
end

-- Files what a verb did: the record, the memory of its operation id, the deadlines, the event.
-- `rest` is the caller's part of the body where the verb replaced it. Returns the record's new head,
-- which is the answer.
local function file_step(verb, id, request, head, deadline_ms, deltas, raw, body_at, rest)
  local operation, fingerprint = request.operation, request.fingerprint
  local plan_size = unpack_struct('<H', raw, body_at)
  local plan = string_sub(raw, body_at, body_at + 1 + plan_size)
  remember_operation(id, rest and head .. plan .. rest or head .. string_sub(raw, body_at))
  if operation ~= NO_OPERATION then
    remember_operation(operation,
      pack('<BBc8c12', KIND_OPERATION, verb, fingerprint, id) .. head)
    -- While the hold lasts its deadline may lie beyond the retention: a repeat must not count again.
    add_due('p', math_max(now_ms, deadline_ms) + request.retention_ms, operation)
  end
  rest = rest or ''
  add_event(verb, 2 * OPERATION_SIZE + #head + #deltas + #plan + #rest,
    id, operation, plan, head, deltas, rest)
  return head
end

-- Ends a step that went by units: settles the state, then files it.
local function close_step(reservation, verb, request)
  local header = reservation.header
  note_end(reservation, verb)
  settle_state(reservation)
  header.changed_epoch, header.changed_seq = epoch_now, next_sequence()
  if header.state > STATE_COMMITTED then
    header.deadline_ms = now_ms + request.retention_ms
    add_due('p', header.deadline_ms, reservation.id)
  end
  local progress = encode_progress(reservation)
  local deltas = reservation.deltas
  for i = 1, #reservation.quantities do
    deltas[i] = deltas[i] or pack(DELTA_FORMAT, 0, 0, 0)
  end
  return file_step(verb, reservation.id, request, encode_header(header) .. progress,
    header.state == STATE_HELD and header.deadline_ms or 0, concat(deltas), reservation.raw,
    reservation.body_at, reservation.rest)
end

-- The usual step, with no tables: all units of a reservation go from one state to another together.
-- `held`, `allocated` and `on_hand` are the signs of what changes. Returns the new head, or nil where
-- the reservation is not as `from` and `revision` say: then it goes by units.
local function move_whole(keys, base, request, verb, from, to, held, allocated, on_hand)
  local id, raw = request.id, remembered[request.id]
  if not raw or string_byte(raw) ~= KIND_RESERVATION then
    return nil
  end
  local kind, state, held_end, closed_by, revision, progress, created_epoch, _, created_seq, _,
    created_ms, deadline_ms, fingerprint = unpack_struct(HEADER_FORMAT, raw)
  if state ~= from or progress > 0 or revision ~= request.revision then
    return nil
  end
  local is_open = to == STATE_COMMITTED
  local _, _, count, cursor = unpack_struct('<HBB', raw, HEADER_SIZE + 1)
  local deltas = ''
  for _ = 1, count do
    local slot, quantity, location
    slot, quantity, location, cursor = unpack_struct('<BI5Bc0', raw, cursor)
    local place = load_position(keys[base + slot], location)
    held_of[place] = held_of[place] + held * quantity
    allocated_of[place] = allocated_of[place] + allocated * quantity
    hand_of[place] = hand_of[place] + on_hand * quantity
    mark_changed(place)
    if not is_open then
      end_claim(place, id)
    end
    deltas = deltas .. pack(DELTA_FORMAT, held * quantity, allocated * quantity, on_hand * quantity)
  end
  if from == STATE_HELD then
    held_end = verb
  end
  if not is_open then
    closed_by = verb
    deadline_ms = now_ms + request.retention_ms
    add_due('p', deadline_ms, id)
  end
  local head = pack(HEADER_FORMAT, kind, to, held_end, closed_by, revision, 0, created_epoch, epoch_now,
    created_seq, next_sequence(), created_ms, deadline_ms, fingerprint)
  return file_step(verb, id, request, head, 0, deltas, raw, HEADER_SIZE + 1)
end

-- A request starts with id(12) revision(H) keys(B) operation(12) fingerprint(8); what is the verb's own
-- follows from this byte on.
local RESOLVE_ARGS_AT = 36

local function load_resolved(args)
  local ids = {}
  for i = 2, #args do
    local n = #ids
    local id, _, _, operation = unpack_struct('<c12HBc12', args[i])
    ids[n + 1] = id
    if operation ~= NO_OPERATION then
      ids[n + 2] = operation
    end
  end
  load_operations(ids)
end

-- Reads the batch and decides every request. `decide_whole` takes the usual case and returns the new
-- head, or nil; then `decide` goes by units: it changes them and the counters and returns nothing, or
-- returns another answer and changes nothing.
local function resolve_requests(keys, args, verb, decide_whole, decide)
  begin_batch(keys[1], keys[2], keys[3], keys[4])
  load_resolved(args)
  local answer, base, request = begin_answer(), 5, { retention_ms = tonumber(args[1]) }
  for i = 2, #args do
    local id, revision, slots, operation, fingerprint = unpack_struct('<c12HBc12c8', args[i])
    request.id, request.revision = id, revision
    request.operation, request.fingerprint = operation, fingerprint
    local outcome = operation ~= NO_OPERATION and replay_operation(operation, verb, id, fingerprint)
      or decide_whole(keys, base, args[i], request)
    if not outcome then
      local reservation, refusal = open_reservation(id, revision)
      outcome = refusal or decide(keys, base, args[i], reservation)
        or close_step(reservation, verb, request)
    end
    answer[i + 1] = outcome
    base = base + slots
  end
  return answer
end
