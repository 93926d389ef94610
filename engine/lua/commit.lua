-- Turns held units into allocated ones, or, where the goods leave at once, into fulfilled ones.
--@verb commit
--@flags allow-oom
--@include builtins state clock card claims record batch terms steps resolve lapse
--@key meta inv:{p}:meta hash rw
--@key operations inv:{p}:ops hash rw
--@key due inv:{p}:due zset rw
--@key log inv:{p}:log stream w
--@key stock inv:{p}:stock hash rw
--@key moves inv:{p}:moves zset w
--@arg retention_ms how long a finished reservation and an operation id are remembered
--@arg request... id(12) operation(12) fingerprint(8) known(H) fulfil(B) keep(B) retake(B)
--  count(B) of { position index(B) quantity(I5) }: none for all; then, where the commit changes it, the
--  part of the body that only the caller reads
--@answer replayed [word, tail, record]
--@answer idempotency_mismatch [word]
--@answer reservation_not_found [word, seq]
--@answer stale [word]: the caller chose positions of a record that has changed; read it again and repeat
--@answer repeated [word, tail, record]
--@answer reservation_expired [word, seq]
--@answer already_committed [word, seq]
--@answer already_released [word, seq]
--@answer already_fulfilled [word, seq]
--@answer already_cancelled [word, seq]
--@answer exceeds_open_quantity [word, seq, position index, open, ...]
--@answer overdue [word]: as in reserve, for a retake
--@answer insufficient_stock [word, seq, position index, available, requested, ...]: a retake
--@answer committed string: the record's new tail; or [seq, record] where the caller does not know the record
--@event commit id(12) operation(12) route(H) plan positions with progress(B) tail whole(B) deltas, then the
--  caller's part where it changed

local CHOICE_AT = RESOLVE_ARGS_AT + 3

-- Why lapsed units cannot be taken anew, or nil when they are still there.
local function refuse_retake(reservation, chosen)
  local refusal
  for i = 1, #chosen do
    local position = reservation.positions[i]
    local room = TERMS.room_for(reservation.raw, i, position)
    if chosen[i] > 0 and chosen[i] > room then
      refusal = refusal or { 'insufficient_stock', last_seq }
      local n = #refusal
      refusal[n + 1], refusal[n + 2], refusal[n + 3] = i - 1, math_max(room, 0) - backorder_limit(position), chosen[i]
    end
  end
  return refusal
end

-- Takes lapsed units anew, if they are still there.
local function retake_units(args, reservation, request)
  local fulfil = string_byte(args, RESOLVE_ARGS_AT)
  local units, lapsed = reservation.units, {}
  for i = 1, #reservation.quantities do
    lapsed[i] = reservation.quantities[i] - units.released[i]
  end
  local chosen, refusal = choose_units(args, CHOICE_AT, lapsed)
  if not refusal then
    refusal = refuse_retake(reservation, chosen)
    if refusal and make_room(request.retention_ms, request.count) then
      refusal = refuse_retake(reservation, chosen)
    end
    refusal = refusal and sees_more_overdue and { 'overdue' } or refusal
  end
  if refusal then
    return refusal
  end
  for i = 1, #chosen do
    if chosen[i] > 0 then
      shift_units(units, fulfil == 1 and 'fulfilled' or 'committed', i, chosen[i])
      change_counters(reservation, i, 0, fulfil == 1 and 0 or chosen[i], fulfil == 1 and -chosen[i] or 0)
    end
  end
  return nil
end

local function commit_units(args, reservation)
  local fulfil, keep = string_byte(args, RESOLVE_ARGS_AT, RESOLVE_ARGS_AT + 1)
  local units = reservation.units
  local chosen, refusal = choose_units(args, CHOICE_AT, units.held)
  if refusal then
    return refusal
  end
  for i = 1, #chosen do
    local take = chosen[i]
    local back = keep == 1 and 0 or units.held[i] - take
    if take + back > 0 then
      shift_units(units, 'held', i, -take - back)
      shift_units(units, 'released', i, back)
      shift_units(units, fulfil == 1 and 'fulfilled' or 'committed', i, take)
      change_counters(reservation, i, -take - back, fulfil == 1 and 0 or take, fulfil == 1 and -take or 0)
    end
  end
  return nil
end

-- What the caller wants in the place of its part of the record; '' for nothing.
local function given_rest(args)
  return string_sub(args, CHOICE_AT + 1 + 6 * string_byte(args, CHOICE_AT))
end

-- A commit may give the reservation another reference: the caller's part of the record is replaced, and
-- whoever remembers the old one learns it by the revision.
local function replace_rest(args, reservation)
  local rest = given_rest(args)
  if rest ~= '' then
    reservation.rest = rest
    reservation.head.revision = (reservation.head.revision + 1) % UNKNOWN_REVISION
  end
end

local function decide_commit(args, reservation, request)
  local fulfil, _, retake = string_byte(args, RESOLVE_ARGS_AT, RESOLVE_ARGS_AT + 2)
  local head = reservation.head
  local take = head.state == STATE.HELD and commit_units
    or head.state == STATE.EXPIRED and retake == 1 and not reservation.is_basket and retake_units
  if take then
    if head.revision ~= request.known and (not chooses_all(args, CHOICE_AT) or given_rest(args) ~= '') then
      return { 'stale' }
    end
    local refusal = take(args, reservation, request)
    if not refusal then
      replace_rest(args, reservation)
    end
    return refusal
  end
  if head.held_end == VERB.COMMIT and chooses_all(args, CHOICE_AT)
    and (head.state == STATE.COMMITTED and fulfil == 0
      or head.state == STATE.FULFILLED and fulfil == 1 and head.closed_by == VERB.COMMIT) then
    return repeat_answer(reservation, request)
  end
  return refuse_not_held(reservation)
end

-- All of a held reservation, and nothing else asked: the usual commit.
local function commit_whole(args, request, index)
  -- Behind the number of choices stand these, and the caller's part.
  if #args > CHOICE_AT then
    return nil
  elseif string_byte(args, RESOLVE_ARGS_AT) == 1 then
    return move_whole(request, index, VERB.COMMIT, STATE.HELD, STATE.FULFILLED, -1, 0, -1)
  end
  return move_whole(request, index, VERB.COMMIT, STATE.HELD, STATE.COMMITTED, -1, 1, 0)
end

local function commit(keys, args)
  local answer = resolve_requests(keys, args, VERB.COMMIT, commit_whole, decide_commit)
  --@writes
  write_batch()
  return answer
end
