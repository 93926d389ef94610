-- Begins a reservation over several partitions on its home: it is pending until its parts are held.
--@verb open_basket
--@flags
--@include builtins state clock card claims record batch
--@key meta inv:{p}:meta hash rw
--@key operations inv:{p}:ops hash rw
--@key due inv:{p}:due zset rw
--@key log inv:{p}:log stream w
--@key stock inv:{p}:stock hash rw
--@arg pending_ms how long the parts may be sought
--@arg request... kind(B) size(I3) id(12) fingerprint(8) ttl_ms(I4) route(H) plan, what only the caller reads, as in
--  reserve, with the lines of all partitions
--@answer replayed [word, record]
--@answer pending [word, record]: somebody seeks the parts of the same request; who helps cannot harm
--@answer idempotency_mismatch [word]
--@answer opened integer: the sequence of the effect, by which the parts are told from those of an earlier attempt
--@event basket the record behind its size

local function decide_open(request, prior)
  local kind = prior and string_byte(prior)
  local state = (kind == KIND.BASKET or kind == KIND.RESERVATION) and decode_head(prior).state
  if not prior or is_abandoned(prior) then
    return nil
  elseif not state or state == STATE.ABANDONED or string_sub(prior, AT.FINGERPRINT, AT.FINGERPRINT + 7)
    ~= string_sub(request, AT.FINGERPRINT, AT.FINGERPRINT + 7) then
    return { 'idempotency_mismatch' }
  elseif state == STATE.PENDING then
    return { 'pending', prior }
  end
  return { 'replayed', prior }
end

local function open_basket(keys, args)
  begin_batch(keys[1], keys[2], keys[3], keys[4], keys[5])
  local answer, ids, deadline_ms = begin_answer(#args - 1), {}, now_ms + tonumber(args[1])
  for i = 2, #args do
    ids[i - 1] = string_sub(args[i], AT.ID, AT.ID + OPERATION_SIZE - 1)
  end
  load_operations(ids)
  for i = 2, #args do
    local id, request = ids[i - 1], args[i]
    local outcome = decide_open(request, remembered[id])
    if not outcome then
      local seq = next_sequence()
      local record = request .. string_rep('\0', string_byte(request, POSITIONS_AT - 1) * BLOCK_NUMBER_SIZE)
        .. pack(HEAD_FORMAT, seq, seq, deadline_ms, now_ms, epoch_now, epoch_now, 0, 0, STATE.PENDING, 0, 0)
      remember_operation(id, record)
      add_event(record)
      add_due('h', deadline_ms, id)
      outcome = seq
    end
    answer[i + 2] = outcome
  end
  end_answer(answer)
  --@writes
  write_batch()
  return answer
end
