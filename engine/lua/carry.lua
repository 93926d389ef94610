-- Files what another data set remembers under an id: a reservation or a part of one, with its units, claims and
-- deadline, or the answer to an operation.
--@verb carry
--@flags
--@include builtins state clock card claims record batch terms places
--@key meta inv:{p}:meta hash rw
--@key operations inv:{p}:ops hash rw
--@key due inv:{p}:due zset rw
--@key log inv:{p}:log stream w
--@key stock inv:{p}:stock hash rw
--@arg request... id(12) until_ms(I6) route(H) record: `until_ms` is when the answer to an operation may be forgotten,
--  `route` that of what it was done to; the record's blocks are of the other data set
--@answer repeated [word]: something is filed under the id
--@answer not_stocked [word, seq, position index...]
--@answer carried integer: the sequence of the effect
--@event carry id(12) until_ms(I6) route(H) record

local CARRIED_AT = 21 -- where the record begins in a request

-- Reads what all requests name; returns their ids and records. Those without lines have no first one.
local function load_carried(args)
  local ids, records, n = {}, {}, 0
  for i = 1, #args do
    local raw = string_sub(args[i], CARRIED_AT)
    ids[i], records[i], first_line[i] = string_sub(args[i], 1, OPERATION_SIZE), raw, false
    if has_lines(raw) then
      local quantities, places, skus = decode_plan(raw)
      first_line[i], last_line[i] = n + 1, n + #quantities
      for j = 1, #quantities do
        n = n + 1
        line_quantity[n], line_place[n], line_card[n] = quantities[j], places[j], want_card(skus[j])
      end
    end
  end
  line_count = n
  load_operations(ids)
  read_cards()
  open_lines()
  return ids, records
end

-- The lines of a request whose position is not there.
local function find_missing(first, last)
  local refusal
  for n = first, last do
    if not line_position[n] then
      refusal = refusal or { 'not_stocked', last_seq }
      refusal[#refusal + 1] = n - first
    end
  end
  return refusal
end

-- Counts and claims the open units of a record; returns it with the blocks of its claims.
local function carry_units(id, raw, first, last)
  local quantities, blocks, head = {}, {}, decode_head(raw)
  for n = first, last do
    quantities[n - first + 1] = line_quantity[n]
  end
  local units = decode_progress(raw, head, quantities)
  for i = 1, #quantities do
    local position, held, allocated = line_position[first + i - 1], units.held[i], units.committed[i]
    blocks[i] = '\0\0\0'
    if held + allocated > 0 then
      held_of[position], allocated_of[position] = held_of[position] + held, allocated_of[position] + allocated
      mark_changed(position)
      TERMS.carry(raw, i, position, held)
      blocks[i] = add_claim(card_of(position), id)
    end
  end
  local at = blocks_at(raw, head.progress)
  return string_sub(raw, 1, at - 1) .. concat(blocks) .. string_sub(raw, at + #blocks * BLOCK_NUMBER_SIZE)
end

-- Files when something is to be done about a record. A part waits for its basket.
local function carry_deadline(id, raw, until_ms)
  local kind = string_byte(raw)
  if kind == KIND.OPERATION or kind == KIND.MOVEMENT then
    add_due('p', until_ms, id)
    return
  end
  local head = decode_head(raw)
  if head.state > STATE.COMMITTED then
    add_due('p', head.deadline_ms, id)
  elseif head.state == STATE.HELD and kind ~= KIND.PART then
    add_due('h', head.deadline_ms, id)
  end
end

local function decide_carry(args, id, raw, first, last)
  if remembered[id] then
    return { 'repeated' }
  end
  local refusal = first and find_missing(first, last)
  if refusal then
    return refusal
  end
  raw = first and carry_units(id, raw, first, last) or raw
  remember_operation(id, raw)
  local _, until_ms = unpack_struct('<c12I6', args)
  carry_deadline(id, raw, until_ms)
  local body = string_sub(args, 1, CARRIED_AT - 1) .. raw
  add_event(pack('<BI3', VERB.CARRY, #body) .. body)
  return next_sequence()
end

local function carry(keys, args)
  begin_batch(keys[1], keys[2], keys[3], keys[4], keys[5])
  local ids, records = load_carried(args)
  local answer = begin_answer(#args)
  for i = 1, #args do
    answer[i + 3] = decide_carry(args[i], ids[i], records[i], first_line[i], last_line[i])
  end
  end_answer(answer)
  --@writes
  write_batch()
  return answer
end
