-- Gives held units back.
--@verb release
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
--@answer already_committed [word, seq]
--@answer already_released [word, seq]
--@answer already_fulfilled [word, seq]
--@answer already_cancelled [word, seq]
--@answer exceeds_open_quantity [word, seq, position index, open, ...]
--@answer released string: the record's new head
--@event release id(12) operation(12) plan head deltas

local function decide_release(keys, base, request, reservation)
  local header, units = reservation.header, reservation.units
  if header.state ~= STATE_HELD then
    return header.held_end == VERB_RELEASE and chooses_all(request, RESOLVE_ARGS_AT)
      and repeat_answer(reservation) or refuse_not_held(reservation)
  end
  local chosen, refusal = choose_units(request, RESOLVE_ARGS_AT, units.held)
  if refusal then
    return refusal
  end
  for i = 1, #chosen do
    if chosen[i] > 0 then
      shift_units(units, 'held', i, -chosen[i])
      shift_units(units, 'released', i, chosen[i])
      change_counters(keys, base, reservation, i, -chosen[i], 0, 0)
    end
  end
  return nil
end

local function release_whole(keys, base, args, request)
  return chooses_all(args, RESOLVE_ARGS_AT)
    and move_whole(keys, base, request, VERB_RELEASE, STATE_HELD, STATE_RELEASED, -1, 0, 0)
end

local function release(keys, args)
  local answer = resolve_requests(keys, args, VERB_RELEASE, release_whole, decide_release)
  --@writes
  write_batch()
  return answer
end
