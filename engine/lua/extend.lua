-- Moves the deadline of a hold; never to an earlier moment.
--@verb extend
--@flags
--@include builtins state clock card claims record batch terms steps resolve
--@key meta inv:{p}:meta hash rw
--@key operations inv:{p}:ops hash rw
--@key due inv:{p}:due zset rw
--@key log inv:{p}:log stream w
--@key stock inv:{p}:stock hash rw
--@arg retention_ms how long a finished reservation and an operation id are remembered
--@arg request... id(12) operation(12) fingerprint(8) known(H) ttl_ms(I6)
--@answer replayed [word, tail, record]
--@answer idempotency_mismatch [word]
--@answer reservation_not_found [word, seq]
--@answer reservation_expired [word, seq]
--@answer already_committed [word, seq]
--@answer already_released [word, seq]
--@answer already_fulfilled [word, seq]
--@answer already_cancelled [word, seq]
--@answer extended string: the record's new tail; or [seq, record] where the caller does not know the record
--@event extend id(12) operation(12) route(H) plan positions with progress(B) tail whole(B) deltas

local function decide_extend(args, reservation)
  local head = reservation.head
  if head.state ~= STATE.HELD then
    return refuse_not_held(reservation)
  end
  local ttl_ms = unpack_struct('<I6', args, RESOLVE_ARGS_AT)
  head.deadline_ms = math_max(head.deadline_ms, now_ms + ttl_ms)
  add_due('h', head.deadline_ms, reservation.id)
  return nil
end

-- An extension moves no units, so there is no shorter way.
local function extend_whole()
  return nil
end

local function extend(keys, args)
  local answer = resolve_requests(keys, args, VERB.EXTEND, extend_whole, decide_extend)
  --@writes
  write_batch()
  return answer
end
