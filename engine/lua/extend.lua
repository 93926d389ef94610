-- Moves the deadline of a hold; never to an earlier moment.
--@verb extend
--@flags
--@include builtins state clock position record batch resolve
--@key meta inv:{p}:meta hash rw
--@key operations inv:{p}:ops hash rw
--@key due inv:{p}:due zset rw
--@key log inv:{p}:log stream w
--@key stock... inv:{p}:sku:<sku> hash rw: for each request its SKUs in slot order
--@arg retention_ms how long a finished reservation and an operation id are remembered
--@arg request... id(12) revision(H) keys(B) operation(12) fingerprint(8) ttl_ms(I6)
--@answer replayed [word, head]
--@answer idempotency_mismatch [word]
--@answer reservation_not_found [word, seq]
--@answer stale [word]: the lines have changed; read the record again and repeat
--@answer reservation_expired [word, seq]
--@answer already_committed [word, seq]
--@answer already_released [word, seq]
--@answer already_fulfilled [word, seq]
--@answer already_cancelled [word, seq]
--@answer extended string: the record's new head
--@event extend id(12) operation(12) plan head deltas

local function decide_extend(_, _, request, reservation)
  local header = reservation.header
  if header.state ~= STATE_HELD then
    return refuse_not_held(reservation)
  end
  local ttl_ms = unpack_struct('<I6', request, RESOLVE_ARGS_AT)
  header.deadline_ms = math_max(header.deadline_ms, now_ms + ttl_ms)
  add_due('h', header.deadline_ms, reservation.id)
  return nil
end

-- An extension moves no units, so there is no shorter way.
local function extend_whole()
  return nil
end

local function extend(keys, args)
  local answer = resolve_requests(keys, args, VERB_EXTEND, extend_whole, decide_extend)
  --@writes
  write_batch()
  return answer
end
