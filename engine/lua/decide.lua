-- Decides on a pending basket: it is held from now on, or it is abandoned. All its parts follow.
--@verb decide
--@flags allow-oom
--@include builtins state clock card claims record batch terms steps
--@key meta inv:{p}:meta hash rw
--@key operations inv:{p}:ops hash rw
--@key due inv:{p}:due zset rw
--@key log inv:{p}:log stream w
--@key stock inv:{p}:stock hash rw
--@arg request... id(12) opened(H, I7) hold(B): 1 holds, 0 abandons
--@answer superseded [word]: that attempt is over, and nothing came of it
--@answer replayed [word, record]: somebody has decided that it is held
--@answer abandoned [seq, record]
--@answer decided [seq, record]
--@event decide id(12) operation(12) route(H) plan positions with progress(B) tail whole(B) deltas
--@event abandon id(12) operation(12) route(H) plan positions with progress(B) tail whole(B) deltas

local function hold_basket(basket, request)
  local head = basket.head
  local ttl_ms = unpack_struct('<I4', basket.raw, AT.FINGERPRINT + 8)
  head.state, head.created_epoch, head.created_seq, head.created_ms = STATE.HELD, epoch_now, last_seq + 1, now_ms
  head.deadline_ms = now_ms + ttl_ms
  add_due('h', head.deadline_ms, basket.id)
  return close_step(basket, VERB.DECIDE, request)
end

local function decide_basket(args, index, request)
  local id, epoch, seq, hold = unpack_struct('<c12HI7B', args)
  local raw = remembered[id]
  if not is_basket(raw) then
    return { 'superseded' }
  end
  local basket = open_basket_record(id, index)
  local head = basket.head
  if head.state == STATE.ABANDONED then
    return { 'superseded' }
  elseif head.state ~= STATE.PENDING then
    return { 'replayed', raw }
  elseif head.created_epoch ~= epoch or head.created_seq ~= seq then
    return { 'superseded' }
  elseif hold == 1 and epoch ~= epoch_now then
    -- Another process has the books since the attempt began: it may have lost the part that was held here.
    abandon(basket, request)
    return { 'superseded' }
  end
  return hold == 1 and hold_basket(basket, request) or abandon(basket, request)
end

local function decide(keys, args)
  begin_batch(keys[1], keys[2], keys[3], keys[4], keys[5])
  local answer, ids = begin_answer(#args), {}
  local request = { retention_ms = 0, operation = NO_OPERATION, fingerprint = NO_FINGERPRINT, known = UNKNOWN_REVISION }
  for i = 1, #args do
    ids[i] = string_sub(args[i], 1, OPERATION_SIZE)
  end
  load_operations(ids)
  for i = 1, #args do
    answer[i + 3] = decide_basket(args[i], i, request)
  end
  end_answer(answer)
  --@writes
  write_batch()
  return answer
end
