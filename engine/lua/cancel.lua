-- Gives committed units back: the order, or a part of it, is off.
--@verb cancel
--@flags allow-oom
--@include builtins state clock position record batch resolve
--@key meta inv:{p}:meta hash rw
--@key operations inv:{p}:ops hash rw
--@key due inv:{p}:due zset rw
--@key log inv:{p}:log stream w
--@key stock... inv:{p}:sku:<sku> hash rw: for each request its SKUs in slot order
--@arg retention_ms how long a finished reservation and an operation id are remembered
--@arg request... id(12) revision(H) keys(B) operation(12) fingerprint(8)
--  count(B) of { position index(B) quantity(I5) }: none for all
--@answer replayed [word, head]
--@answer idempotency_mismatch [word]
--@answer reservation_not_found [word, seq]
--@answer stale [word]: the lines have changed; read the record again and repeat
--@answer repeated [word, head]
--@answer reservation_expired [word, seq]
--@answer not_committed [word, seq]
--@answer already_released [word, seq]
--@answer already_fulfilled [word, seq]
--@answer already_cancelled [word, seq]
--@answer exceeds_open_quantity [word, seq, position index, open, ...]
--@answer cancelled string: the record's new head
--@event cancel id(12) operation(12) plan head deltas

local function decide_cancel(keys, base, request, reservation)
  local header, units = reservation.header, reservation.units
  if sum_units(units.committed) == 0 then
    return header.state ~= STATE_HELD and header.closed_by == VERB_CANCEL
      and chooses_all(request, RESOLVE_ARGS_AT) and repeat_answer(reservation)
      or refuse_by_state(reservation)
  end
  local chosen, refusal = choose_units(request, RESOLVE_ARGS_AT, units.committed)
  if refusal then
    return refusal
  end
  for i = 1, #chosen do
    if chosen[i] > 0 then
      shift_units(units, 'committed', i, -chosen[i])
      shift_units(units, 'released', i, chosen[i])
      change_counters(keys, base, reservation, i, 0, -chosen[i], 0)
    end
  end
  return nil
end

local function cancel_whole(keys, base, args, request)
  return chooses_all(args, RESOLVE_ARGS_AT)
    and move_whole(keys, base, request, VERB_CANCEL, STATE_COMMITTED, STATE_CANCELLED, 0, -1, 0)
end

local function cancel(keys, args)
  local answer = resolve_requests(keys, args, VERB_CANCEL, cancel_whole, decide_cancel)
  --@writes
  write_batch()
  return answer
end
