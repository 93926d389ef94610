-- Gives a reservation other lines, units in other places, or another caller's part, in one step.
--@verb replan
--@flags
--@include builtins state clock card claims record batch terms steps resolve lapse replan
--@key meta inv:{p}:meta hash rw
--@key operations inv:{p}:ops hash rw
--@key due inv:{p}:due zset rw
--@key log inv:{p}:log stream w
--@key stock inv:{p}:stock hash rw
--@key wanted inv:{p}:wanted hash w
--@arg retention_ms how long a finished reservation and an operation id are remembered
--@arg request... id(12) operation(12) fingerprint(8) changed(H, I7): the record's version that the caller worked from,
--  flags(B), plan, for each position of it held(I5) committed(I5) fulfilled(I5) released(I5), then the caller's part,
--  terms first. Flags: 1, positions that lose committed units are to be counted; 2, the basket's parts have what it gets
--@answer replayed [word, answer, record]
--@answer idempotency_mismatch [word]
--@answer reservation_not_found [word, seq]
--@answer sku_not_found [word, seq, position index...]
--@answer not_stocked [word, seq, position index...]
--@answer reservation_expired [word, seq]
--@answer already_released [word, seq]
--@answer already_fulfilled [word, seq]
--@answer already_cancelled [word, seq]
--@answer stale [word]: the record is not what the caller worked from; read it again and repeat
--@answer overdue [word]: as in reserve
--@answer insufficient_stock [word, seq, position index, available, requested, ...]: of all that it shall have there
--@answer replanned string: the record's new tail
--@event replanned id(12) operation(12) size(I4) record

local VERSION_AT = 33
local PLAN_OF_REQUEST = 43

-- The lines that a request asks for, and where the caller's part begins.
local function read_asked(args)
  local lines, cursor = REPLAN.read_plan(args, PLAN_OF_REQUEST)
  for i = 1, #lines do
    local line = lines[i]
    line.held, line.committed, line.fulfilled, line.released, cursor = unpack_struct('<I5I5I5I5', args, cursor)
  end
  return lines, cursor
end

-- Notes the positions at which units that were promised for good are not to be found: whoever counts next begins
-- there.
local function want_counts(change, wanted)
  for i = 1, #change.moves do
    local move, n = change.moves[i], #wanted
    if move.allocated < 0 then
      wanted[n + 1], wanted[n + 2] = move.place .. move.sku, pack('<I6', now_ms)
    end
  end
end

-- Whether a basket's parts need not have anything first: nothing moves, or it is given back.
local function has_same_lines(change)
  for i = 1, #change.moves do
    local move = change.moves[i]
    if move.index ~= move.index_before or move.held + move.allocated > 0 then
      return false
    end
  end
  return true
end

local function decide_replan(args, request)
  local outcome = request.fingerprint ~= NO_FINGERPRINT and replay_operation(VERB.REPLANNED, request)
  if outcome then
    return outcome
  end
  local raw = remembered[request.id]
  local head = raw and (string_byte(raw) == KIND.RESERVATION or is_basket(raw)) and decode_head(raw)
  if not head or head.state >= STATE.PENDING then
    return { 'reservation_not_found', last_seq }
  elseif head.state > STATE.COMMITTED then
    return refuse_not_held({ head = head })
  end
  local epoch, seq, flags = unpack_struct('<HI7B', args, VERSION_AT)
  if epoch ~= head.changed_epoch or seq ~= head.changed_seq then
    return { 'stale' }
  end
  local lines, rest_at = read_asked(args)
  local change = REPLAN.open(request.id, raw, lines)
  if change.is_basket and flags < REPLAN.OFFERED and not has_same_lines(change) then
    return { 'stale' }
  end
  local refusal = REPLAN.refuse(change, TERMS.room)
  if not refusal then
    if flags % REPLAN.OFFERED == REPLAN.SHORT then
      want_counts(change, request.wanted)
    end
    return REPLAN.apply(change, request, string_sub(args, rest_at))
  elseif refusal[1] == 'insufficient_stock' and make_room(request.retention_ms, request.count) then
    -- What lapsed may be the reservation itself.
    return decide_replan(args, request)
  end
  return refusal[1] == 'insufficient_stock' and sees_more_overdue and { 'overdue' } or refusal
end

-- Notes all cards that the requests will need.
local function want_all(args)
  for i = 2, #args do
    local raw = remembered[request_id[i]]
    if raw and string_byte(raw) == KIND.RESERVATION then
      REPLAN.want((REPLAN.read_plan(raw, PLAN_AT)))
      REPLAN.want((REPLAN.read_plan(args[i], PLAN_OF_REQUEST)))
    end
  end
  read_cards()
end

local function replan(keys, args)
  begin_batch(keys[1], keys[2], keys[3], keys[4], keys[5])
  local asked, answer = {}, begin_answer(#args - 1)
  for i = 2, #args do
    request_id[i], request_operation[i], request_fingerprint[i] = unpack_struct('<c12c12c8', args[i])
    asked[2 * i - 3], asked[2 * i - 2] = request_id[i], request_operation[i]
  end
  load_operations(asked)
  want_all(args)
  local request = { retention_ms = tonumber(args[1]), count = #args, known = UNKNOWN_REVISION, wanted = {} }
  for i = 2, #args do
    request.id, request.operation, request.fingerprint = request_id[i], request_operation[i], request_fingerprint[i]
    answer[i + 2] = decide_replan(args[i], request)
  end
  end_answer(answer)
  --@writes
  write_batch()
  set_fields(keys[6], request.wanted, #request.wanted)
  return answer
end
