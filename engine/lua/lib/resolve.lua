-- Moving the units of a reservation from state to state: what commit, release, extend, fulfil, cancel
-- and expire have in common.

-- By the index of the request: what it names, and where the plan of the record ends.
local request_id, request_operation, request_fingerprint, request_known, plan_end = {}, {}, {}, {}, {}

-- Notes the positions of remembered reservations, one for each request from index `at` on, and reads their
-- cards in one call.
local function load_lines(ids, at)
  local first_line, last_line, line_quantity, line_place, line_card, card_index, remembered, unpack_struct =
    first_line, last_line, line_quantity, line_place, line_card, card_index, remembered, unpack_struct
  local n = line_count
  for i = 1, #ids do
    local raw, index = remembered[ids[i]], at + i - 1
    first_line[index] = false
    if raw and string_byte(raw) == KIND_RESERVATION then
      local count, quantity, place, sku, cursor = unpack_struct('<BI5Bc0Hc0', raw, POSITIONS_AT - 1)
      n = n + 1
      first_line[index] = n
      line_quantity[n], line_place[n], line_card[n] = quantity, place, card_index[sku] or want_card(sku)
      while count > 1 do
        n, count = n + 1, count - 1
        line_quantity[n], line_place[n], sku, cursor = unpack_struct(POSITION_FORMAT, raw, cursor)
        line_card[n] = card_index[sku] or want_card(sku)
      end
      last_line[index], plan_end[index] = n, cursor - 1
    end
  end
  line_count = n
  read_cards()
  open_lines()
end

-- Reads the reservation of the request at an index. Returns nil and a refusal where there is none.
local function open_reservation(id, index)
  local raw = remembered[id]
  if not first_line[index] then
    return nil, { 'reservation_not_found', last_seq }
  end
  local head = decode_head(raw)
  local quantities, blocks, positions = {}, {}, {}
  local from, cursor = first_line[index], blocks_at(raw, head.progress)
  for i = 1, last_line[index] - from + 1 do
    quantities[i], positions[i] = line_quantity[from + i - 1], line_position[from + i - 1]
    blocks[i], cursor = unpack_struct('<c3', raw, cursor)
  end
  return {
    id = id, index = index, head = head, raw = raw, quantities = quantities, positions = positions,
    blocks = blocks, units = decode_progress(raw, head, quantities), deltas = {},
  }
end

-- The revision of a record, by which a caller tells whether it knows the rest of it.
local function revision_of(raw)
  return (unpack_struct('<H', raw, #raw - 5))
end

-- The tail that answers a request, and the record itself where the caller does not know it.
local function answer_tail(word, tail, raw, known)
  return { word, tail, revision_of(raw) ~= known and raw or nil }
end

-- The answer to a repeat under a remembered operation id, or nil.
local function replay_operation(verb, request)
  local prior, id = remembered[request.operation], request.id
  if not prior then
    return nil
  elseif string_byte(prior) == KIND_OPERATION then
    local _, prior_verb, prior_fingerprint, prior_id, at = unpack_struct('<BBc8c12', prior)
    if prior_verb == verb and prior_id == id and prior_fingerprint == request.fingerprint then
      return remembered[id] and answer_tail('replayed', string_sub(prior, at), remembered[id], request.known)
        or { 'reservation_not_found', last_seq }
    end
  end
  return { 'idempotency_mismatch' }
end

-- A repeat that needs no operation id: the reservation is already as asked, so answer as then.
local function repeat_answer(reservation, request)
  return answer_tail('repeated', tail_of(reservation.raw), reservation.raw, request.known)
end

-- The quantities that a request asks for: the positions it chooses, or all there is in `source`.
-- Where a choice exceeds what is there, a refusal that names index and open units of each.
local function choose_units(args, at, source)
  local chosen, count, cursor = {}, unpack_struct('<B', args, at)
  for i = 1, #source do
    chosen[i] = count == 0 and source[i] or 0
  end
  local refusal
  for _ = 1, count do
    local index, quantity
    index, quantity, cursor = unpack_struct('<BI5', args, cursor)
    if not source[index + 1] then
      return nil, { 'stale' }
    end
    chosen[index + 1] = quantity
    if quantity > source[index + 1] then
      refusal = refusal or { 'exceeds_open_quantity', last_seq }
      local n = #refusal
      refusal[n + 1], refusal[n + 2] = index, source[index + 1]
    end
  end
  return chosen, refusal
end

local function chooses_all(args, at)
  return string_byte(args, at) == 0
end

-- Whether a request chooses positions of a record that is not the one its caller knows.
local function is_stale(args, at, reservation, request)
  return reservation.head.revision ~= request.known and not chooses_all(args, at)
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

-- Whether a reservation has open units on a card; `except` is a position that does not count.
local function other_open(reservation, card, except)
  local units = reservation.units
  for i = 1, #reservation.positions do
    if i ~= except and card_of(reservation.positions[i]) == card
      and units.held[i] + units.committed[i] > 0 then
      return i
    end
  end
  return nil
end

-- Changes the counters of the reservation's i-th position. A card on which its last open unit goes loses
-- the claim; one on which units open anew gets it.
local function change_counters(reservation, i, held, allocated, on_hand)
  local position = reservation.positions[i]
  local card = card_of(position)
  held_of[position] = held_of[position] + held
  allocated_of[position] = allocated_of[position] + allocated
  hand_of[position] = hand_of[position] + on_hand
  mark_changed(position)
  reservation.deltas[i] = pack(DELTA_FORMAT, held, allocated, on_hand)
  local units, other = reservation.units, other_open(reservation, card, i)
  if held == 0 and allocated > 0 then
    reservation.blocks[i] = other and reservation.blocks[other] or add_claim(card, reservation.id)
  elseif not other and held + allocated < 0 and units.held[i] + units.committed[i] == 0 then
    end_claim(card, reservation.id, reservation.blocks[i])
  end
end

local REFUSAL_OF_STATE = {
  [STATE.HELD] = 'not_committed',
  [STATE.COMMITTED] = 'already_committed',
  [STATE.FULFILLED] = 'already_fulfilled',
  [STATE.RELEASED] = 'already_released',
  [STATE.EXPIRED] = 'reservation_expired',
  [STATE.CANCELLED] = 'already_cancelled',
}

-- Why a verb finds no units to work on.
local function refuse_by_state(reservation)
  return { REFUSAL_OF_STATE[reservation.head.state], last_seq }
end

-- The same for a verb that works on held units: a lapsed hold stays lapsed, whatever else was committed.
local function refuse_not_held(reservation)
  if reservation.head.held_end == VERB.EXPIRE then
    return { 'reservation_expired', last_seq }
  end
  return refuse_by_state(reservation)
end

-- Notes which verb took the last held and the last open unit.
local function note_end(reservation, verb)
  local head, units = reservation.head, reservation.units
  if sum_units(units.held) > 0 then
    return
  end
  if head.state == STATE.HELD or head.state == STATE.EXPIRED then
    head.held_end = verb
  end
  if sum_units(units.committed) == 0 then
    head.closed_by = verb
  end
end

-- The state that the units add up to.
local function settle_state(reservation)
  local head, units = reservation.head, reservation.units
  if sum_units(units.held) > 0 then
    head.state = STATE.HELD
  elseif sum_units(units.committed) > 0 then
    head.state = STATE.COMMITTED
  elseif sum_units(units.fulfilled) > 0 then
    head.state = STATE.FULFILLED
  elseif head.closed_by == VERB.CANCEL then
    head.state = STATE.CANCELLED
  elseif head.closed_by == VERB.EXPIRE then
    head.state = STATE.EXPIRED
  else
    head.state = STATE.RELEASED
  end
end

-- The progress of all positions, or '' while every unit is in the reservation's own state.
local function encode_progress(reservation)
  local head, quantities, units = reservation.head, reservation.quantities, reservation.units
  local parts = {}
  for i = 1, #quantities do
    parts[i] = pack('<I5I5I5I5', units.held[i], units.committed[i], units.fulfilled[i], units.released[i])
  end
  head.progress = 0
  local plain = decode_progress('', head, quantities)
  for i = 1, #quantities do
    if plain.held[i] ~= units.held[i] or plain.committed[i] ~= units.committed[i]
      or plain.fulfilled[i] ~= units.fulfilled[i] or plain.released[i] ~= units.released[i] then
      head.progress = #quantities
      return concat(parts)
    end
  end
  return ''
end

-- Remembers the answer under the operation id of a request. While a hold lasts its deadline may lie beyond
-- the retention: a repeat must not count again.
local function remember_answer(operation, verb, id, request, tail, deadline_ms)
  remember_operation(operation, pack('<BBc8c12', KIND_OPERATION, verb, request.fingerprint, id) .. tail)
  add_due('p', math_max(now_ms, deadline_ms) + request.retention_ms, operation)
end

-- Ends a step that went by units: settles the state, writes the record, then files it. Returns the answer.
local function close_step(reservation, verb, request)
  local head, id, raw = reservation.head, reservation.id, reservation.raw
  note_end(reservation, verb)
  settle_state(reservation)
  local progress_before = head.progress
  head.changed_epoch, head.changed_seq = epoch_now, next_sequence()
  if head.state > STATE.COMMITTED then
    head.deadline_ms = now_ms + request.retention_ms
    add_due('p', head.deadline_ms, id)
  end
  local tail = encode_progress(reservation)
  tail = tail .. encode_head(head)
  local deltas = reservation.deltas
  for i = 1, #reservation.quantities do
    -- An extension moves no units at all.
    deltas[i] = verb ~= VERB.EXTEND and (deltas[i] or pack(DELTA_FORMAT, 0, 0, 0)) or ''
  end
  local plan, rest = string_sub(raw, PLAN_AT, plan_end[reservation.index]), reservation.rest
  local body_end = rest and PLAN_AT + #plan - 1 or blocks_at(raw, progress_before) - 1
  local record = string_sub(raw, 1, body_end) .. (rest or '') .. concat(reservation.blocks) .. tail
  remember_operation(id, record)
  if request.operation ~= NO_OPERATION then
    remember_answer(request.operation, verb, id, request, tail, head.state == STATE.HELD and head.deadline_ms or 0)
  end
  local changes = concat(deltas)
  local body = id .. request.operation .. string_sub(raw, ROUTE_AT, PLAN_AT - 1) .. plan .. pack('<B', head.progress) .. tail
    .. (changes == '' and '\1' or '\0') .. changes .. (rest or '')
  add_event(pack('<BI3', verb, #body) .. body)
  if rest or revision_of(raw) == request.known then
    return tail
  end
  return { last_seq, record }
end

-- Whether one of the lines from `first` up to `before` lies on a card.
local function has_line(card, first, before)
  for n = first, before - 1 do
    if card_of(line_position[n]) == card then
      return true
    end
  end
  return false
end

-- The usual step, with no tables: all units of a reservation go from one state to another together.
-- `held`, `allocated` and `on_hand` are the signs of what changes. Returns the answer, or nil where the
-- reservation is not in the state `from`, or in parts: then it goes by units.
local function move_whole(request, index, verb, from, to, held, allocated, on_hand)
  local id, first, last = request.id, first_line[index], last_line[index]
  if not first then
    return nil
  end
  local raw = remembered[id]
  local size = #raw
  local created_seq, _, deadline_ms, created_ms, created_epoch, _, revision, progress, state, held_end,
    closed_by = unpack_struct(HEAD_FORMAT, raw, size - HEAD_SIZE + 1)
  if state ~= from or progress > 0 then
    return nil
  end
  for n = first, last do
    local position, quantity = line_position[n], line_quantity[n]
    held_of[position] = held_of[position] + held * quantity
    allocated_of[position] = allocated_of[position] + allocated * quantity
    hand_of[position] = hand_of[position] + on_hand * quantity
    if not is_changed[position] then
      mark_changed(position)
    end
  end
  if to ~= STATE.COMMITTED then
    local at = size - HEAD_SIZE - (last - first + 1) * BLOCK_NUMBER_SIZE + 1
    for n = first, last do
      local card = card_of(line_position[n])
      -- Positions on one card share a claim.
      if n == first or not other_positions[card] or not has_line(card, first, n) then
        end_claim(card, id, string_sub(raw, at, at + 2))
      end
      at = at + BLOCK_NUMBER_SIZE
    end
    closed_by, deadline_ms = verb, now_ms + request.retention_ms
    add_due('p', deadline_ms, id)
  end
  local seq, operation = last_seq + 1, request.operation
  last_seq = seq
  local head = pack(HEAD_FORMAT, created_seq, seq, deadline_ms, created_ms, created_epoch, epoch_now,
    revision, 0, to, from == STATE.HELD and verb or held_end, closed_by)
  local record, plan = string_sub(raw, 1, size - HEAD_SIZE) .. head, string_sub(raw, ROUTE_AT, plan_end[index])
  local written_before = written_size
  remembered[id], written[written_before + 1], written[written_before + 2] = record, id, record
  written_size, event_count = written_before + 2, event_count + 1
  if operation ~= NO_OPERATION then
    remember_answer(operation, verb, id, request, head, 0)
  end
  events[event_count + 1] = pack('<BI3', verb, 2 * OPERATION_SIZE + #plan + HEAD_SIZE + 2)
    .. id .. operation .. plan .. '\0' .. head .. '\1'
  return revision == request.known and head or { seq, record }
end

-- A request starts with id(12) operation(12) fingerprint(8) known(H); what is the verb's own follows from
-- this byte on.
local RESOLVE_ARGS_AT = 35

-- Reads the requests, their records, the memories of their operation ids, and what the records name.
local function load_resolved(args)
  local ids, asked, size = {}, {}, #args - 1
  for i = 2, #args do
    local id, operation, fingerprint, known = unpack_struct('<c12c12c8H', args[i])
    request_id[i], request_operation[i], request_fingerprint[i], request_known[i] =
      id, operation, fingerprint, known
    ids[i - 1], asked[i - 1] = id, id
    if operation ~= NO_OPERATION then
      size = size + 1
      asked[size] = operation
    end
  end
  load_operations(asked)
  load_lines(ids, 2)
end

-- Reads the batch and decides every request. `decide_whole` takes the usual case and returns the answer,
-- or nil; then `decide` goes by units: it changes them and the counters and returns nothing, or
-- returns another answer and changes nothing.
local function resolve_requests(keys, args, verb, decide_whole, decide)
  begin_batch(keys[1], keys[2], keys[3], keys[4], keys[5])
  load_resolved(args)
  local answer, request = begin_answer(#args - 1), { retention_ms = tonumber(args[1]), count = #args }
  for i = 2, #args do
    local operation, outcome = request_operation[i], nil
    request.id, request.operation, request.known = request_id[i], operation, request_known[i]
    if operation ~= NO_OPERATION then
      request.fingerprint = request_fingerprint[i]
      outcome = replay_operation(verb, request)
    end
    outcome = outcome or decide_whole(args[i], request, i)
    if not outcome then
      local reservation, refusal = open_reservation(request.id, i)
      outcome = refusal or decide(args[i], reservation, request)
        or close_step(reservation, verb, request)
    end
    answer[i + 2] = outcome
  end
  return end_answer(answer)
end
