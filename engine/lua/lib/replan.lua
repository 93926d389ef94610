-- Giving a reservation other lines in one step. First `open` reads what it has and what it shall get, then `refuse`
-- tells what does not fit, then `apply` changes everything: counters, claims, fences, what floats, the record, the
-- ledger. Nothing is changed before `apply`, and that cannot fail.
--
-- A line is { sku, place, quantity, held, committed, fulfilled, released }; no two lie on one position.
local REPLAN = { NO_BLOCK = '\0\0\0', SHORT = 1, OFFERED = 2 } -- the last two are flags of a request

-- The lines of a plan without their units, and where it ends.
function REPLAN.read_plan(raw, at)
  local lines, cursor = {}, at + 3
  for i = 1, string_byte(raw, at + 2) do
    local line = {}
    line.quantity, line.place, line.sku, cursor = unpack_struct(POSITION_FORMAT, raw, cursor)
    lines[i] = line
  end
  return lines, cursor
end

function REPLAN.pack_plan(lines)
  local parts = { pack('<B', #lines) }
  for i = 1, #lines do
    local line = lines[i]
    parts[i + 1] = pack('<I5B', line.quantity, #line.place) .. line.place .. pack('<H', #line.sku) .. line.sku
  end
  local plan = concat(parts)
  return pack('<H', #plan) .. plan
end

-- The lines of a record with their units and blocks, and its head.
function REPLAN.read(raw)
  local head, lines, quantities = decode_head(raw), REPLAN.read_plan(raw, PLAN_AT), {}
  for i = 1, #lines do
    quantities[i] = lines[i].quantity
  end
  local units, cursor = decode_progress(raw, head, quantities), blocks_at(raw, head.progress)
  for i = 1, #lines do
    local line = lines[i]
    line.held, line.committed = units.held[i], units.committed[i]
    line.fulfilled, line.released = units.fulfilled[i], units.released[i]
    line.block, cursor = unpack_struct('<c3', raw, cursor)
  end
  return lines, head
end

-- Notes the cards of lines, so that those of many are read in one call.
function REPLAN.want(lines)
  for i = 1, #lines do
    want_card(lines[i].sku)
  end
end

function REPLAN.load(lines)
  REPLAN.want(lines)
  read_cards()
  for i = 1, #lines do
    lines[i].position = load_position(want_card(lines[i].sku), lines[i].place)
  end
end

function REPLAN.open_units(line)
  return line and line.held + line.committed or 0
end

-- The change of a record to other lines: for each position what it had and what it shall have. A basket has no
-- positions here, its parts have them.
function REPLAN.open(id, raw, lines)
  local before, head = REPLAN.read(raw)
  local change = {
    id = id, raw = raw, head = head, before = before, lines = lines, moves = {}, terms = TERMS.read(raw),
    is_basket = is_basket(raw),
  }
  if not change.is_basket then
    REPLAN.load(before)
    REPLAN.load(lines)
  end
  local moves, known = change.moves, {}
  for i = 1, #before do
    local name = before[i].place .. before[i].sku
    moves[i] = { before = before[i], index_before = i, position = before[i].position }
    known[name] = moves[i]
  end
  for i = 1, #lines do
    local name = lines[i].place .. lines[i].sku
    local move = known[name]
    if not move then
      move = { position = lines[i].position }
      moves[#moves + 1], known[name] = move, move
    end
    move.after, move.index = lines[i], i
  end
  for i = 1, #moves do
    local move = moves[i]
    local old, new = move.before, move.after
    move.place, move.sku = (new or old).place, (new or old).sku
    move.held = (new and new.held or 0) - (old and old.held or 0)
    move.allocated = (new and new.committed or 0) - (old and old.committed or 0)
  end
  return change
end

-- Why a change cannot be made, or nil. `room` is `TERMS.room` or another rule of the same form. A short line is
-- told with all open units that it shall have, those that the reservation has already among what is available.
function REPLAN.refuse(change, room)
  if change.is_basket then
    return nil
  end
  local unknown, missing, short
  for i = 1, #change.moves do
    local move = change.moves[i]
    if not move.position then
      missing = missing or { 'not_stocked', last_seq }
      missing[#missing + 1] = move.index - 1
      if not text_of[want_card(move.sku)] then
        unknown = unknown or { 'sku_not_found', last_seq }
        unknown[#unknown + 1] = move.index - 1
      end
    elseif move.held + move.allocated > 0 then
      local left = room(move.position, move.place, move.sku, change.terms and change.terms.channel or '')
      if left < move.held + move.allocated then
        short = short or { 'insufficient_stock', last_seq }
        local limit, n = backorder_limit(move.position), #short
        short[n + 1], short[n + 2], short[n + 3] = move.index - 1,
          math_max(left - limit, -limit) + REPLAN.open_units(move.before), REPLAN.open_units(move.after)
      end
    end
  end
  return unknown or missing or short
end

-- The caller's part of a record that has terms, for the new lines: what was bound stays so.
function REPLAN.keep_rest(change)
  local raw, terms = change.raw, change.terms
  local _, rest_at = REPLAN.read_plan(raw, PLAN_AT)
  local rest = string_sub(raw, rest_at, blocks_at(raw, change.head.progress) - 1)
  local bound = {}
  for i = 1, #change.moves do
    local move = change.moves[i]
    if move.index and move.before and string_find(terms.bound, pack('B', move.index_before - 1), 1, true) then
      bound[#bound + 1] = pack('B', move.index - 1)
    end
  end
  return TERMS.pack(terms.channel, terms.pools, concat(bound)) .. string_sub(rest, 3 + string_byte(rest, 2))
end

-- Counts units of a position that float with such terms from now on, or no longer; where there are none, nothing.
function REPLAN.float(terms, move, held)
  if terms then
    local policy = policy_of[move.position]
    policy[POLICY.FLOATING] = policy[POLICY.FLOATING] + held
    TERMS.count_floating(terms, move.position, move.place, move.sku, held)
  end
end

-- Moves the counters, and with them fences and what floats.
function REPLAN.shift(change, terms)
  for i = 1, #change.moves do
    local move = change.moves[i]
    local position, before = move.position, change.terms
    local floated = move.before and before and TERMS.floats(before, move.index_before)
    local floats = move.after and terms and TERMS.floats(terms, move.index)
    if floats and not policy_of[position] then
      POLICY.add(card_of(position))
    end
    held_of[position] = held_of[position] + move.held
    allocated_of[position] = allocated_of[position] + move.allocated
    mark_changed(position)
    local policy = policy_of[position]
    if terms and policy then
      TERMS.follow(move.after and terms or before, move.index or move.index_before, position, move.place, move.sku,
        move.held, move.allocated, 0)
      if move.before and move.after then
        -- What stays here may float from now on, or no longer, or with others.
        REPLAN.float(floated and before, move, -move.before.held)
        REPLAN.float(floats and terms, move, move.before.held)
      end
    end
    POLICY.settle(position)
  end
end

-- Claims the cards on which units open anew, gives back the others; returns the numbers of the blocks.
function REPLAN.claim(change)
  local claimed, is_open, blocks = {}, {}, {}
  for i = 1, #change.before do
    local line = change.before[i]
    local card = card_of(line.position)
    if REPLAN.open_units(line) > 0 and not claimed[card] then
      claimed[card] = line.block
    end
  end
  for i = 1, #change.moves do
    local move = change.moves[i]
    if move.after then
      local card, was_open = card_of(move.position), REPLAN.open_units(move.before) > 0
      local block = move.before and move.before.block or REPLAN.NO_BLOCK
      if REPLAN.open_units(move.after) > 0 then
        claimed[card] = claimed[card] or add_claim(card, change.id)
        is_open[card], block = true, was_open and block or claimed[card]
      end
      blocks[move.index] = block
    end
  end
  for i = 1, #change.before do
    local card = card_of(change.before[i].position)
    if claimed[card] and not is_open[card] then
      end_claim(card, change.id, claimed[card])
      claimed[card] = nil
    end
  end
  return concat(blocks)
end

-- Puts another id in the place of one on a card, whose claims keep their order. The card is written anyway.
function REPLAN.rename_claim(card, id, other)
  local function rename(ids, from)
    local at = find_claim(ids, from, id)
    return at and string_sub(ids, 1, at - 1) .. other .. string_sub(ids, at + CLAIM_SIZE)
  end
  local text = text_of[card] .. (added_claims[card] or '')
  local renamed = rename(text, claim_room[card] - BLOCK_SIZE + #text + 1)
  text_of[card], added_claims[card], newest_claim[card] = renamed or text, false, nil
  local first, last = blocks_of(card)
  for block = last - 1, renamed and last or first, -1 do
    local field = block_field(card, block)
    local ids = rename(read_block(field), 1)
    if ids then
      change_block(field, ids)
      return
    end
  end
end

-- Makes a change. `rest` is what stands in the place of the caller's part of the record, terms first; nil where it
-- stays. `request` has operation, fingerprint and retention_ms, as for every step. Returns the record's new tail.
function REPLAN.apply(change, request, rest)
  local id, raw, head, lines = change.id, change.raw, change.head, change.lines
  local units, quantities = { held = {}, committed = {}, fulfilled = {}, released = {} }, {}
  for i = 1, #lines do
    local line = lines[i]
    quantities[i], units.held[i], units.committed[i] = line.quantity, line.held, line.committed
    units.fulfilled[i], units.released[i] = line.fulfilled, line.released
  end
  rest = rest or REPLAN.keep_rest(change)
  local body, blocks = string_sub(raw, 1, PLAN_AT - 1) .. REPLAN.pack_plan(lines) .. rest
  if change.is_basket then
    blocks = string_rep(REPLAN.NO_BLOCK, #lines)
    repairs[id] = now_ms + BASKET_MS.REPAIR
  else
    REPLAN.shift(change, TERMS.read(body))
    blocks = REPLAN.claim(change)
  end
  local reservation = { head = head, units = units, quantities = quantities }
  -- Where nothing is open any more, the last units were not there to be fulfilled.
  note_end(reservation, VERB.CANCEL)
  settle_state(reservation)
  head.revision = (head.revision + 1) % UNKNOWN_REVISION
  head.changed_epoch, head.changed_seq = epoch_now, next_sequence()
  if head.state > STATE.COMMITTED then
    head.deadline_ms = now_ms + request.retention_ms
    add_due('p', head.deadline_ms, id)
  end
  local tail = encode_progress(reservation)
  tail = tail .. encode_head(head)
  local record = body .. blocks .. tail
  remember_operation(id, record)
  if request.fingerprint ~= NO_FINGERPRINT then
    remember_answer(request.operation, VERB.REPLANNED, id, request, record,
      head.state == STATE.HELD and head.deadline_ms or 0)
  end
  add_event(pack('<BI3', VERB.REPLANNED, 2 * OPERATION_SIZE + 4 + #record)
    .. id .. request.operation .. pack('<I4', #record) .. record)
  return tail
end
