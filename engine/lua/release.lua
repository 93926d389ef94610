-- Gives held units back.
--@verb release
--@flags allow-oom
--@include builtins state clock card claims record batch terms steps resolve
--@key meta inv:{p}:meta hash rw
--@key operations inv:{p}:ops hash rw
--@key due inv:{p}:due zset rw
--@key log inv:{p}:log stream w
--@key stock inv:{p}:stock hash rw
--@arg retention_ms how long a finished reservation and an operation id are remembered
--@arg request... id(12) operation(12) fingerprint(8) known(H)
--  count(B) of { position index(B) quantity(I5) }: none for all
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
--@answer released string: the record's new tail; or [seq, record] where the caller does not know the record
--@event release id(12) operation(12) route(H) plan positions with progress(B) tail whole(B) deltas

local function decide_release(args, reservation, request)
  local head, units = reservation.head, reservation.units
  if head.state ~= STATE.HELD then
    return head.held_end == VERB.RELEASE and chooses_all(args, RESOLVE_ARGS_AT)
      and repeat_answer(reservation, request) or refuse_not_held(reservation)
  end
  if is_stale(args, RESOLVE_ARGS_AT, reservation, request) then
    return { 'stale' }
  end
  local chosen, refusal = choose_units(args, RESOLVE_ARGS_AT, units.held)
  if refusal then
    return refusal
  end
  for i = 1, #chosen do
    if chosen[i] > 0 then
      shift_units(units, 'held', i, -chosen[i])
      shift_units(units, 'released', i, chosen[i])
      change_counters(reservation, i, -chosen[i], 0, 0)
    end
  end
  return nil
end

local function release_whole(args, request, index)
  return chooses_all(args, RESOLVE_ARGS_AT)
    and move_whole(request, index, VERB.RELEASE, STATE.HELD, STATE.RELEASED, -1, 0, 0)
end

local function release(keys, args)
  local answer = resolve_requests(keys, args, VERB.RELEASE, release_whole, decide_release)
  --@writes
  write_batch()
  return answer
end
