-- Moving the units of a reservation from state to state: what commit, release, extend, fulfil, cancel
-- and expire have in common.

-- Reads a request's reservation. Returns nil and a refusal where there is none, or where the caller
-- knew an older version of its lines (and so may have named the wrong keys).
local function open_reservation(batch, id, revision)
  local raw = batch.remembered[id]
  if not raw or string_byte(raw) ~= KIND_RESERVATION then
    return nil, { 'reservation_not_found', batch.seq }
  end
  local header = decode_header(raw)
  if header.revision ~= revision then
    return nil, { 'stale' }
  end
  local body_at = HEADER_SIZE + header.progress * PROGRESS_SIZE + 1
  local slots, quantities, places, plan_size = decode_plan(raw, body_at)
  return {
    id = id, header = header, raw = raw, body_at = body_at, plan_size = plan_size,
    slots = slots, quantities = quantities, places = places,
    units = decode_progress(raw, header, quantities), deltas = {},
  }
end

-- The answer to a repeat under a remembered operation id, or nil.
local function replay_operation(batch, operation, verb, id, fingerprint)
  local prior = operation ~= NO_OPERATION and batch.remembered[operation]
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
local function choose_units(batch, request, at, source)
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
      refusal = refusal or { 'exceeds_open_quantity', batch.seq }
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
-- reservation goes is struck from the holders; one that opens anew is entered.
local function change_counters(batch, keys, base, reservation, i, held, allocated, on_hand)
  local key, place = keys[base + reservation.slots[i]], reservation.places[i]
  local position = load_position(batch, key, place)
  position[HELD] = position[HELD] + held
  position[ALLOCATED] = position[ALLOCATED] + allocated
  position[ON_HAND] = position[ON_HAND] + on_hand
  change_position(batch, key, place, position)
  reservation.deltas[i] = pack('<i6i6i6', held, allocated, on_hand)
  local units, holder = reservation.units, place .. '\n' .. reservation.id
  if units.held[i] + units.committed[i] == 0 then
    remove_field(batch, key, holder)
  elseif held == 0 and allocated > 0 then
    add_field(batch, key, holder, string_format('%d', batch.seq + 1))
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
local function refuse_by_state(batch, reservation)
  return { REFUSAL_OF_STATE[reservation.header.state], batch.seq }
end

-- The same for a verb that works on held units: a lapsed hold stays lapsed, whatever else was committed.
local function refuse_not_held(batch, reservation)
  if reservation.header.held_end == VERB_EXPIRE then
    return { 'reservation_expired', batch.seq }
  end
  return refuse_by_state(batch, reservation)
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
-- Returns the new head of the record (header and progress), which is the answer.
local function close_step(batch, reservation, verb, operation, fingerprint, retention_ms)
  local header = reservation.header
  note_end(reservation, verb)
  settle_state(reservation)
  header.changed_epoch, header.changed_seq = batch.epoch, next_sequence(batch)
  if header.state > STATE_COMMITTED then
    header.deadline_ms = batch.now + retention_ms
    add_due(batch, 'p', header.deadline_ms, reservation.id)
  end
  local progress = encode_progress(reservation)
  local head = encode_header(header) .. progress
  local plan = string_sub(reservation.raw, reservation.body_at, reservation.body_at + 1 + reservation.plan_size)
  remember_operation(batch, reservation.id, head .. (reservation.rest and plan .. reservation.rest
    or string_sub(reservation.raw, reservation.body_at)))
  if operation ~= NO_OPERATION then
    remember_operation(batch, operation,
      pack('<BBc8c12', KIND_OPERATION, verb, fingerprint, reservation.id) .. head)
    add_due(batch, 'p', batch.now + retention_ms, operation)
  end
  local deltas = reservation.deltas
  for i = 1, #reservation.quantities do
    deltas[i] = deltas[i] or pack('<i6i6i6', 0, 0, 0)
  end
  add_event(batch, verb, reservation.id .. operation .. head .. concat(deltas) .. plan
    .. (reservation.rest or ''))
  return head
end

-- A request starts with id(12) revision(H) keys(B) operation(12) fingerprint(8); what is the verb's own
-- follows from this byte on.
local RESOLVE_ARGS_AT = 36

-- Reads the batch and decides every request by `decide`, which changes the reservation's units and the
-- counters and returns nothing, or returns another answer and changes nothing.
local function resolve_requests(keys, args, verb, decide)
  local batch, retention_ms, ids = begin_batch(keys[1], keys[2], keys[3], keys[4]), tonumber(args[1]), {}
  for i = 2, #args do
    local n = #ids
    local id, _, _, operation = unpack_struct('<c12HBc12', args[i])
    ids[n + 1] = id
    if operation ~= NO_OPERATION then
      ids[n + 2] = operation
    end
  end
  load_operations(batch, ids)
  local answer, base = begin_answer(batch), 5
  for i = 2, #args do
    local id, revision, slots, operation, fingerprint = unpack_struct('<c12HBc12c8', args[i])
    local outcome = replay_operation(batch, operation, verb, id, fingerprint)
    if not outcome then
      local reservation, refusal = open_reservation(batch, id, revision)
      outcome = refusal or decide(batch, keys, base, args[i], reservation)
        or close_step(batch, reservation, verb, operation, fingerprint, retention_ms)
    end
    answer[i + 1] = outcome
    base = base + slots
  end
  return batch, answer
end
