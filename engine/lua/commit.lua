-- Turns held units into allocated ones, or, where the goods leave at once, into fulfilled ones.
--@verb commit
--@flags allow-oom
--@include builtins state clock position record batch resolve
--@key meta inv:{p}:meta hash rw
--@key operations inv:{p}:ops hash rw
--@key due inv:{p}:due zset rw
--@key log inv:{p}:log stream w
--@key stock... inv:{p}:sku:<sku> hash rw: for each request its SKUs in slot order
--@arg retention_ms how long a finished reservation and an operation id are remembered
--@arg request... id(12) revision(H) keys(B) operation(12) fingerprint(8) fulfil(B) keep(B) retake(B) swept(B)
--  count(B) of { position index(B) quantity(I5) }: none for all; then, where the commit changes it, the
--  part of the body that only the caller reads
--@answer replayed [word, head]
--@answer idempotency_mismatch [word]
--@answer reservation_not_found [word, seq]
--@answer stale [word]: the lines have changed; read the record again and repeat
--@answer repeated [word, head]
--@answer reservation_expired [word, seq]
--@answer already_committed [word, seq]
--@answer already_released [word, seq]
--@answer already_fulfilled [word, seq]
--@answer already_cancelled [word, seq]
--@answer exceeds_open_quantity [word, seq, position index, open, ...]
--@answer overdue [word]: as in reserve, for a retake
--@answer insufficient_stock [word, seq, position index, available, requested, ...]: a retake
--@answer committed string: the record's new head
--@event commit id(12) operation(12) plan head deltas, then the caller's part where it changed

-- Takes lapsed units anew, if they are still there.
local function retake_units(keys, base, request, reservation)
  local fulfil, _, _, swept, at = unpack_struct('<BBBB', request, RESOLVE_ARGS_AT)
  local units, lapsed = reservation.units, {}
  for i = 1, #reservation.quantities do
    lapsed[i] = reservation.quantities[i] - units.released[i]
  end
  local chosen, refusal = choose_units(request, at, lapsed)
  if refusal then
    return refusal
  end
  for i = 1, #chosen do
    local place = load_position(keys[base + reservation.slots[i]], reservation.locations[i])
    if chosen[i] > 0 and not fits(place, chosen[i]) then
      refusal = refusal or { 'insufficient_stock', last_seq }
      local n = #refusal
      refusal[n + 1], refusal[n + 2] = i - 1, available_units(place)
      refusal[n + 3] = chosen[i]
    end
  end
  if refusal then
    return swept == 0 and has_overdue() and { 'overdue' } or refusal
  end
  for i = 1, #chosen do
    if chosen[i] > 0 then
      shift_units(units, fulfil == 1 and 'fulfilled' or 'committed', i, chosen[i])
      change_counters(keys, base, reservation, i, 0,
        fulfil == 1 and 0 or chosen[i], fulfil == 1 and -chosen[i] or 0)
    end
  end
  return nil
end

local function commit_units(keys, base, request, reservation)
  local fulfil, keep, _, _, at = unpack_struct('<BBBB', request, RESOLVE_ARGS_AT)
  local units = reservation.units
  local chosen, refusal = choose_units(request, at, units.held)
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
      change_counters(keys, base, reservation, i, -take - back,
        fulfil == 1 and 0 or take, fulfil == 1 and -take or 0)
    end
  end
  return nil
end

-- A commit may give the reservation another reference: the caller's part of the body is replaced, and
-- whoever remembers the old one learns by the revision that it is stale.
local function replace_rest(reservation, request, at)
  local rest = string_sub(request, at + 1 + 6 * string_byte(request, at))
  if rest ~= '' then
    reservation.rest = rest
    reservation.header.revision = (reservation.header.revision + 1) % 65536
  end
end

local function decide_commit(keys, base, request, reservation)
  local fulfil, _, retake, _, at = unpack_struct('<BBBB', request, RESOLVE_ARGS_AT)
  local header = reservation.header
  local take = header.state == STATE_HELD and commit_units
    or header.state == STATE_EXPIRED and retake == 1 and retake_units
  if take then
    local refusal = take(keys, base, request, reservation)
    if not refusal then
      replace_rest(reservation, request, at)
    end
    return refusal
  end
  if header.held_end == VERB_COMMIT and chooses_all(request, at)
    and (header.state == STATE_COMMITTED and fulfil == 0
      or header.state == STATE_FULFILLED and fulfil == 1 and header.closed_by == VERB_COMMIT) then
    return repeat_answer(reservation)
  end
  return refuse_not_held(reservation)
end

-- All of a held reservation, and nothing else asked: the usual commit.
local function commit_whole(keys, base, args, request)
  if #args ~= RESOLVE_ARGS_AT + 4 or not chooses_all(args, RESOLVE_ARGS_AT + 4) then
    return nil
  elseif string_byte(args, RESOLVE_ARGS_AT) == 1 then
    return move_whole(keys, base, request, VERB_COMMIT, STATE_HELD, STATE_FULFILLED, -1, 0, -1)
  end
  return move_whole(keys, base, request, VERB_COMMIT, STATE_HELD, STATE_COMMITTED, -1, 1, 0)
end

local function commit(keys, args)
  local answer = resolve_requests(keys, args, VERB_COMMIT, commit_whole, decide_commit)
  --@writes
  write_batch()
  return answer
end
