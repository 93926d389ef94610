-- Moving the units of a reservation from state to state, and writing down that it was done.

-- By the index of the request: what it names, and where the plan of the record ends.
local request_id, plan_end = {}, {}

-- Notes the positions of remembered reservations, or parts of some, one for each request from index `at` on,
-- and reads their cards in one call.
local function load_lines(ids, at, kind)
  local first_line, last_line, line_quantity, line_place, line_card, card_index, remembered, unpack_struct =
    first_line, last_line, line_quantity, line_place, line_card, card_index, remembered, unpack_struct
  local n = line_count
  for i = 1, #ids do
    local raw, index = remembered[ids[i]], at + i - 1
    first_line[index] = false
    if raw and string_byte(raw) == kind then
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

local function is_basket(raw)
  return raw and string_byte(raw) == KIND.BASKET
end

-- Reads a basket for the request at an index: a reservation without positions, for its parts have them.
local function open_basket_record(id, index)
  local raw = remembered[id]
  local head, quantities, blocks, cursor, _ = decode_head(raw), {}, {}, POSITIONS_AT, nil
  for i = 1, string_byte(raw, POSITIONS_AT - 1) do
    quantities[i], _, _, cursor = unpack_struct(POSITION_FORMAT, raw, cursor)
    blocks[i] = '\0\0\0'
  end
  plan_end[index] = cursor - 1
  return {
    id = id, index = index, head = head, raw = raw, quantities = quantities, is_basket = true,
    blocks = blocks, units = decode_progress(raw, head, quantities), deltas = {},
  }
end

-- Reads the reservation of the request at an index. Returns nil and a refusal where there is none.
local function open_reservation(id, index)
  local raw = remembered[id]
  if is_basket(raw) then
    local basket = open_basket_record(id, index)
    if basket.head.state < STATE.PENDING then
      return basket
    end
    return nil, { 'reservation_not_found', last_seq }
  elseif not first_line[index] then
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
  reservation.deltas[i] = pack(DELTA_FORMAT, held, allocated, on_hand)
  if reservation.is_basket then
    return
  end
  local position = reservation.positions[i]
  local card = card_of(position)
  held_of[position] = held_of[position] + held
  allocated_of[position] = allocated_of[position] + allocated
  hand_of[position] = hand_of[position] + on_hand
  mark_changed(position)
  if on_hand ~= 0 then
    reservation.left = reservation.left or {}
    reservation.left[i] = on_hand
  end
  if policy_of[position] then
    TERMS.follow_record(reservation.raw, i, position, held, allocated, on_hand)
    POLICY.settle(position)
  end
  local units, other = reservation.units, other_open(reservation, card, i)
  if held == 0 and allocated > 0 then
    reservation.blocks[i] = other and reservation.blocks[other] or add_claim(card, reservation.id)
  elseif not other and held + allocated < 0 and units.held[i] + units.committed[i] == 0 then
    end_claim(card, reservation.id, reservation.blocks[i])
  end
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
  elseif head.closed_by == VERB.ABANDON then
    head.state = STATE.ABANDONED
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

-- Remembers the answer under the operation id of a request: the tail, behind plan and caller's part where these are
-- no more those of the reserve, or need not stay so. While a hold lasts its deadline may lie beyond the retention: a repeat must not
-- count again.
local function remember_answer(operation, verb, id, request, record, deadline_ms)
  local tail = tail_of(record)
  if revision_of(record) > 0 or TERMS.at(record) then
    tail = string_sub(record, PLAN_AT, blocks_at(record, string_byte(record, #record - 3)) - 1) .. tail
  end
  remember_operation(operation, pack('<BBc8c12', KIND.OPERATION, verb, request.fingerprint, id) .. tail)
  add_due('p', math_max(now_ms, deadline_ms) + request.retention_ms, operation)
end

-- How long whoever took a step on a basket is given to tell its parts, and how long an abandoned one is remembered.
local BASKET_MS = { REPAIR = 5000, ABANDONED = 60000 }

-- Ends a step that went by units: settles the state, writes the record, then files it. Returns the answer.
local function close_step(reservation, verb, request)
  local head, id, raw = reservation.head, reservation.id, reservation.raw
  note_end(reservation, verb)
  settle_state(reservation)
  local progress_before = head.progress
  head.changed_epoch, head.changed_seq = epoch_now, next_sequence()
  for i, units in pairs(reservation.left or {}) do
    MOVES.add_line(first_line[reservation.index] + i - 1, id, units)
  end
  if head.state > STATE.COMMITTED then
    head.deadline_ms = now_ms + request.retention_ms
    add_due('p', head.deadline_ms, id)
  end
  local tail = encode_progress(reservation)
  tail = tail .. encode_head(head)
  local deltas, moves_units = reservation.deltas, verb ~= VERB.EXTEND and verb ~= VERB.DECIDE
  if reservation.is_basket and moves_units then
    -- Nobody but a sweeper knows of what has lapsed.
    repairs[id] = now_ms + (verb == VERB.EXPIRE and 0 or BASKET_MS.REPAIR)
  end
  for i = 1, #reservation.quantities do
    deltas[i] = moves_units and (deltas[i] or pack(DELTA_FORMAT, 0, 0, 0)) or ''
  end
  local plan = string_sub(raw, AT.ROUTE, plan_end[reservation.index])
  local rest = reservation.rest and TERMS.keep(raw, reservation.rest)
  local body_end = rest and AT.ROUTE + #plan - 1 or blocks_at(raw, progress_before) - 1
  local record = string_sub(raw, 1, body_end) .. (rest or '') .. concat(reservation.blocks) .. tail
  remember_operation(id, record)
  if request.fingerprint ~= NO_FINGERPRINT then
    remember_answer(request.operation, verb, id, request, record, head.state == STATE.HELD and head.deadline_ms or 0)
  end
  local changes = concat(deltas)
  local body = id .. request.operation .. plan .. pack('<B', head.progress) .. tail
    .. (changes == '' and '\1' or '\0') .. changes .. (rest or '')
  add_event(pack('<BI3', verb, #body) .. body)
  if rest or revision_of(raw) == request.known then
    return tail
  end
  return { last_seq, record }
end

-- A pending basket will not be held: what its parts hold is given back.
local function abandon(basket, request)
  local units, retention_ms = basket.units, request.retention_ms
  for i = 1, #basket.quantities do
    shift_units(units, 'released', i, units.held[i])
    change_counters(basket, i, -units.held[i], 0, 0)
    units.held[i] = 0
  end
  request.retention_ms = BASKET_MS.ABANDONED
  local answer = close_step(basket, VERB.ABANDON, request)
  request.retention_ms = retention_ms
  return answer
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
    if policy_of[position] then
      TERMS.follow_record(raw, n - first + 1, position, held * quantity, allocated * quantity, on_hand * quantity)
      POLICY.settle(position)
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
  if on_hand ~= 0 then
    for n = first, last do
      MOVES.add_line(n, id, on_hand * line_quantity[n])
    end
  end
  local head = pack(HEAD_FORMAT, created_seq, seq, deadline_ms, created_ms, created_epoch, epoch_now,
    revision, 0, to, from == STATE.HELD and verb or held_end, closed_by)
  local record, plan = string_sub(raw, 1, size - HEAD_SIZE) .. head, string_sub(raw, AT.ROUTE, plan_end[index])
  local written_before = written_size
  remembered[id], written[written_before + 1], written[written_before + 2] = record, id, record
  written_size, event_count = written_before + 2, event_count + 1
  if request.fingerprint ~= NO_FINGERPRINT then
    remember_answer(operation, verb, id, request, record, 0)
  end
  events[event_count + 1] = pack('<BI3', verb, 2 * OPERATION_SIZE + #plan + HEAD_SIZE + 2)
    .. id .. operation .. plan .. '\0' .. head .. '\1'
  return revision == request.known and head or { seq, record }
end
