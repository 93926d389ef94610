-- The requests of those who own a reservation: what commit, release, extend, fulfil and cancel have in common.

-- By the index of the request: its operation id, the mark of its content, the revision that its caller has seen.
local request_operation, request_fingerprint, request_known = {}, {}, {}

-- The tail that answers a request, and the record itself where the caller does not know it.
local function answer_tail(word, tail, raw, known)
  return { word, tail, revision_of(raw) ~= known and raw or nil }
end

-- The answer to a repeat under a remembered operation id, or nil.
local function replay_operation(verb, request)
  local prior, id = remembered[request.operation], request.id
  if not prior or is_abandoned(prior) then
    return nil
  elseif string_byte(prior) == KIND.OPERATION then
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
    if fingerprint ~= NO_FINGERPRINT then
      size = size + 1
      asked[size] = operation
    end
  end
  load_operations(asked)
  load_lines(ids, 2, KIND.RESERVATION)
end

-- Reads the batch and decides every request. `decide_whole` takes the usual case and returns the answer,
-- or nil; then `decide` goes by units: it changes them and the counters and returns nothing, or
-- returns another answer and changes nothing.
local function resolve_requests(keys, args, verb, decide_whole, decide)
  begin_batch(keys[1], keys[2], keys[3], keys[4], keys[5], keys[6])
  load_resolved(args)
  local answer, request = begin_answer(#args - 1), { retention_ms = tonumber(args[1]), count = #args }
  for i = 2, #args do
    local fingerprint, outcome = request_fingerprint[i], nil
    request.id, request.operation, request.known = request_id[i], request_operation[i], request_known[i]
    request.fingerprint = fingerprint
    if fingerprint ~= NO_FINGERPRINT then
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
