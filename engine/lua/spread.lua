-- Makes a reservation of one partition a basket, whose only part has its units: from then on it may have lines in other
-- partitions, too. No unit moves, and each claim keeps its place.
--@verb spread
--@flags
--@include builtins state clock card claims record batch terms steps replan
--@key meta inv:{p}:meta hash rw
--@key operations inv:{p}:ops hash rw
--@key due inv:{p}:due zset rw
--@key log inv:{p}:log stream w
--@key stock inv:{p}:stock hash rw
--@arg request... id(12) part(12) changed(H, I7) seek_ms(I4): the version of the record that the caller has read
--@answer stale [word]: the record is not what the caller has read
--@answer behind [word]: the part has units of an earlier life of the basket; tell it that it is over, then repeat
--@answer spread integer: the sequence of the effect
--@event spread id(12) part(12) size(I4) basket, then the part

-- Units that floated stay where they are from now on: none are moved from afar.
local function bind_units(raw, lines)
  local terms = TERMS.read(raw)
  for i = 1, #lines do
    local line = lines[i]
    if terms and line.held > 0 and TERMS.floats(terms, i) then
      REPLAN.float(terms, line, -line.held)
      mark_changed(line.position)
    end
  end
  return terms and TERMS.pack(terms.channel, '', '') or ''
end

local function decide_spread(args)
  local id, part, epoch, seq, seek_ms = unpack_struct('<c12c12HI7c4', args)
  local raw, prior = remembered[id], remembered[part]
  local head = raw and string_byte(raw) == KIND.RESERVATION and decode_head(raw)
  if not head or head.state > STATE.COMMITTED or head.changed_epoch ~= epoch or head.changed_seq ~= seq then
    return { 'stale' }
  elseif prior and string_byte(prior) == KIND.PART and decode_head(prior).state <= STATE.COMMITTED then
    return { 'behind' }
  end
  local lines, claimed = REPLAN.read(raw), {}
  REPLAN.load(lines)
  for i = 1, #lines do
    local card = card_of(lines[i].position)
    if REPLAN.open_units(lines[i]) > 0 and not claimed[card] then
      claimed[card] = true
      REPLAN.rename_claim(card, id, part)
      mark_changed(lines[i].position)
    end
  end
  local terms, blocks_from, tail_size = bind_units(raw, lines), blocks_at(raw, head.progress), #tail_of(raw)
  local progress = string_sub(raw, #raw - tail_size + 1, #raw - HEAD_SIZE)
  local blocks = string_sub(raw, blocks_from, #raw - tail_size)
  local _, rest_at = REPLAN.read_plan(raw, PLAN_AT)
  head.changed_epoch, head.changed_seq = epoch_now, next_sequence()
  local revision = head.revision
  head.revision = 0
  local body = part .. NO_FINGERPRINT .. seek_ms .. string_sub(raw, AT.ROUTE, rest_at - 1)
    .. pack('<HI7', epoch_now, last_seq) .. terms .. blocks
  local part_record = pack('<BI3', KIND.PART, #body + HEAD_SIZE) .. body .. progress .. encode_head(head)
  head.revision = (revision + 1) % UNKNOWN_REVISION
  local basket = pack('<B', KIND.BASKET) .. string_sub(raw, 2, blocks_from - 1) .. string_rep('\0', #blocks)
    .. progress .. encode_head(head)
  remember_operation(id, basket)
  remember_operation(part, part_record)
  add_event(pack('<BI3', VERB.SPREAD, 2 * OPERATION_SIZE + 4 + #basket + #part_record) .. id .. part
    .. pack('<I4', #basket) .. basket .. part_record)
  return last_seq
end

local function spread(keys, args)
  begin_batch(keys[1], keys[2], keys[3], keys[4], keys[5])
  local answer, asked = begin_answer(#args), {}
  for i = 1, #args do
    asked[2 * i - 1], asked[2 * i] = unpack_struct('<c12c12', args[i])
  end
  load_operations(asked)
  for i = 1, #args do
    answer[i + 3] = decide_spread(args[i])
  end
  end_answer(answer)
  --@writes
  write_batch()
  return answer
end
