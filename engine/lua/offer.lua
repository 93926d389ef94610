-- Holds what a basket over several partitions may get in one of them: its part has more from now on, or begins. What
-- becomes of that is decided on the basket's home, and the part hears of it as of every step.
--@verb offer
--@flags
--@include builtins state clock card claims record batch terms steps lapse parts replan offers
--@key meta inv:{p}:meta hash rw
--@key operations inv:{p}:ops hash rw
--@key due inv:{p}:due zset rw
--@key log inv:{p}:log stream w
--@key stock inv:{p}:stock hash rw
--@arg retention_ms how long a finished reservation is remembered
--@arg request... kind(B) size(I3) id(12) fingerprint(8) seek_ms(I4) route(H) plan followed(H, I7) offered(B): a part's
--  record as far as the caller makes it, with all units that are open in a position, or shall be; then of each
--  position the units that the basket has there: held(I5) committed(I5)
--@answer superseded [word]: the basket has changed since
--@answer behind [word]: the part does not have what the basket has; tell it, then repeat
--@answer taken [word]: something else was offered at the same version of the basket
--@answer repeated [word]
--@answer sku_not_found [word, seq, position index...]
--@answer not_stocked [word, seq, position index...]
--@answer overdue [word]: as in reserve
--@answer insufficient_stock [word, seq, position index, available, requested, ...]: of all that the part shall have there
--@answer held integer: the sequence of the effect
--@event part the record behind its size
--@event replanned id(12) operation(12) size(I4) record

local OFFER = {}

-- What is asked for, by position: `open` units in all, `had` of them held and `committed` before. And where the record
-- that the request would be ends.
function OFFER.read(args)
  local asked, last = REPLAN.read_plan(args, PLAN_AT), OFFERS.rest_end(args) + #OFFERS.OFFERED
  local cursor = last + 1
  for i = 1, #asked do
    local line = asked[i]
    line.index, line.open = i, line.quantity
    line.had, line.committed, cursor = unpack_struct('<I5I5', args, cursor)
    asked[line.place .. line.sku] = line
  end
  return asked, last
end

-- Whether the open units of a part are those that the offer goes on from.
function OFFER.is_at(lines, asked)
  local met = 0
  for i = 1, #lines do
    local line = lines[i]
    local one = asked[line.place .. line.sku]
    local held, committed = one and one.had or 0, one and one.committed or 0
    if line.held ~= held or line.committed ~= committed then
      return false
    end
    met = met + (held + committed > 0 and 1 or 0)
  end
  for i = 1, #asked do
    met = met - (asked[i].had + asked[i].committed > 0 and 1 or 0)
  end
  return met == 0
end

-- Whether the open units of a part are those of the offer.
function OFFER.has_all(lines, asked)
  local met = 0
  for i = 1, #lines do
    local line = lines[i]
    local one = asked[line.place .. line.sku]
    if REPLAN.open_units(line) ~= (one and one.open or 0) then
      return false
    end
    met = met + (one and 1 or 0)
  end
  return met == #asked
end

-- What an earlier request, or a later step of the basket, means for an offer; nil where nothing stands in its way.
function OFFER.meet(raw, args, asked)
  if string_byte(raw) ~= KIND.PART then
    return { 'superseded' }
  end
  local epoch, seq, prior_epoch, prior_seq
  epoch, seq = followed_by(args)
  prior_epoch, prior_seq = followed_by(raw)
  if prior_epoch > epoch or prior_epoch == epoch and prior_seq > seq then
    return { 'superseded' }
  end
  local lines, head = REPLAN.read(raw)
  if OFFERS.is_offered(raw) and head.state <= STATE.COMMITTED then
    if prior_epoch ~= epoch or prior_seq ~= seq then
      return { 'behind' }
    end
    return OFFER.has_all(lines, asked) and { 'repeated' } or { 'taken' }
  end
  return not OFFER.is_at(lines, asked) and { 'behind' } or nil
end

-- The lines that a part shall have: those it has, with what is added, and then the new ones.
function OFFER.offered_lines(raw, asked)
  local lines = REPLAN.read(raw)
  for i = 1, #lines do
    local line = lines[i]
    local one = asked[line.place .. line.sku]
    local added = one and one.open - REPLAN.open_units(line) or 0
    line.quantity, line.held, line.asked = line.quantity + added, line.held + added, one
    if one then
      one.is_known = true
    end
  end
  for i = 1, #asked do
    local one = asked[i]
    if not one.is_known then
      lines[#lines + 1] = {
        sku = one.sku, place = one.place, quantity = one.open, held = one.open, committed = 0, fulfilled = 0,
        released = 0, asked = one,
      }
    end
  end
  return lines
end

-- A part that begins.
function OFFER.open_new(id, args, asked)
  for i = 1, #asked do
    asked[i].asked = asked[i]
  end
  return OFFERS.open_new(id, args, asked)
end

-- A refusal that names the positions as the request has them.
function OFFER.name_asked(refusal, lines)
  local step = refusal[1] == 'insufficient_stock' and 3 or 1
  for i = 3, #refusal, step do
    refusal[i] = lines[refusal[i] + 1].asked.index - 1
  end
  return refusal
end

function OFFER.decide(args, request)
  local id = string_sub(args, AT.ID, AT.ID + OPERATION_SIZE - 1)
  local raw, asked, last = remembered[id], OFFER.read(args)
  local met = raw and OFFER.meet(raw, args, asked)
  if met then
    return met
  end
  local is_open = raw and decode_head(raw).state <= STATE.COMMITTED
  if not is_open and not OFFER.is_at({}, asked) then
    return { 'behind' }
  end
  local change = is_open and REPLAN.open(id, raw, OFFER.offered_lines(raw, asked)) or OFFER.open_new(id, args, asked)
  local refusal = REPLAN.refuse(change, TERMS.room)
  if refusal and refusal[1] == 'insufficient_stock' and make_room(request.retention_ms, request.count) then
    return OFFER.decide(args, request)
  elseif refusal then
    local is_overdue = refusal[1] == 'insufficient_stock' and sees_more_overdue
    return is_overdue and { 'overdue' } or OFFER.name_asked(refusal, change.lines)
  elseif is_open then
    REPLAN.apply(change, request, OFFERS.rest(raw, followed_by(args)) .. OFFERS.OFFERED)
  else
    OFFERS.begin(change, string_sub(args, 1, last))
  end
  repairs[id] = now_ms + unpack_struct('<I4', args, AT.FINGERPRINT + 8)
  return last_seq
end

local function offer(keys, args)
  begin_batch(keys[1], keys[2], keys[3], keys[4], keys[5])
  local answer, ids = begin_answer(#args - 1), {}
  for i = 2, #args do
    ids[i - 1] = string_sub(args[i], AT.ID, AT.ID + OPERATION_SIZE - 1)
    REPLAN.want((REPLAN.read_plan(args[i], PLAN_AT)))
  end
  load_operations(ids)
  local request = {
    retention_ms = tonumber(args[1]), count = #args, operation = NO_OPERATION, fingerprint = NO_FINGERPRINT,
  }
  for i = 2, #args do
    answer[i + 2] = OFFER.decide(args[i], request)
  end
  end_answer(answer)
  --@writes
  write_batch()
  return answer
end
