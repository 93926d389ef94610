-- The goods of committed units leave: on_hand falls.
--@verb fulfil
--@flags
--@include builtins state clock card claims record batch terms steps resolve
--@key meta inv:{p}:meta hash rw
--@key operations inv:{p}:ops hash rw
--@key due inv:{p}:due zset rw
--@key log inv:{p}:log stream w
--@key stock inv:{p}:stock hash rw
--@key moves inv:{p}:moves zset w
--@arg retention_ms how long a finished reservation and an operation id are remembered
--@arg request... id(12) operation(12) fingerprint(8) known(H)
--  count(B) of { position index(B) quantity(I5) }: none for all
--@answer replayed [word, tail, record]
--@answer idempotency_mismatch [word]
--@answer reservation_not_found [word, seq]
--@answer stale [word]: the caller chose positions of a record that has changed; read it again and repeat
--@answer repeated [word, tail, record]
--@answer reservation_expired [word, seq]
--@answer not_committed [word, seq]
--@answer already_released [word, seq]
--@answer already_fulfilled [word, seq]
--@answer already_cancelled [word, seq]
--@answer exceeds_open_quantity [word, seq, position index, open, ...]
--@answer fulfilled string: the record's new tail; or [seq, record] where the caller does not know the record
--@event fulfil id(12) operation(12) route(H) plan positions with progress(B) tail whole(B) deltas

local function decide_fulfil(args, reservation, request)
  local head, units = reservation.head, reservation.units
  if sum_units(units.committed) == 0 then
    return head.state == STATE.FULFILLED and head.closed_by ~= VERB.CANCEL
      and chooses_all(args, RESOLVE_ARGS_AT) and repeat_answer(reservation, request)
      or refuse_by_state(reservation)
  end
  if is_stale(args, RESOLVE_ARGS_AT, reservation, request) then
    return { 'stale' }
  end
  local chosen, refusal = choose_units(args, RESOLVE_ARGS_AT, units.committed)
  if refusal then
    return refusal
  end
  for i = 1, #chosen do
    if chosen[i] > 0 then
      shift_units(units, 'committed', i, -chosen[i])
      shift_units(units, 'fulfilled', i, chosen[i])
      change_counters(reservation, i, 0, -chosen[i], -chosen[i])
    end
  end
  return nil
end

local function fulfil_whole(args, request, index)
  return chooses_all(args, RESOLVE_ARGS_AT)
    and move_whole(request, index, VERB.FULFIL, STATE.COMMITTED, STATE.FULFILLED, 0, -1, -1)
end

local function fulfil(keys, args)
  local answer = resolve_requests(keys, args, VERB.FULFIL, fulfil_whole, decide_fulfil)
  --@writes
  write_batch()
  return answer
end
