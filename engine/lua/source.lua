-- Holds stock for new reservations whose places are decided here: by channel, pool and strategy.
--@verb source
--@flags
--@include builtins state clock card claims record batch terms steps lapse places replan sourcing
--@key meta inv:{p}:meta hash rw
--@key operations inv:{p}:ops hash rw
--@key due inv:{p}:due zset rw
--@key log inv:{p}:log stream w
--@key stock inv:{p}:stock hash rw
--@key locations inv:{p}:locations hash r
--@key pools inv:{p}:pools hash r
--@key channels inv:{p}:channels hash r
--@arg retention_ms how long a finished reservation is remembered
--@arg request... id(12) fingerprint(8) ttl_ms(I4) route(H), then what lib/sourcing.lua reads, then the caller's part
--  of the record
--@answer replayed [word, record]
--@answer idempotency_mismatch [word]
--@answer pool_not_found [word, seq]
--@answer channel_not_found [word, seq]
--@answer sku_not_found [word, seq, group index...]
--@answer not_stocked [word, seq, group index...]
--@answer overdue [word]: as in reserve
--@answer insufficient_stock [word, seq, group index, available sets, asked sets, ...]
--@answer held [seq, record]
--@event reserve the record behind its size
--@event replan id(12) operation(12) size(I4) record: a hold that made way

local REQUEST_AT = 27 -- behind id, fingerprint, time to live and route

local function replay_source(prior, args)
  if string_byte(prior) == KIND.RESERVATION
    and string_sub(prior, AT.FINGERPRINT, AT.FINGERPRINT + 7) == string_sub(args, 13, 20) then
    return { 'replayed', prior }
  end
  return { 'idempotency_mismatch' }
end

local function decide_source(args, settings, request, rest, retention_ms, requests)
  local id = string_sub(args, 1, OPERATION_SIZE)
  local prior = remembered[id]
  if prior and not is_abandoned(prior) then
    return replay_source(prior, args)
  end
  local state = { settings = settings, request = request, floaters = {} }
  local refusal = SOURCING.decide(state)
  if refusal and refusal[1] == 'insufficient_stock' and make_room(retention_ms, requests) then
    refusal = SOURCING.decide(state)
  end
  if refusal then
    return sees_more_overdue and { 'overdue' } or refusal
  end
  local plan, terms, blocks = SOURCING.hold(state, id, retention_ms)
  local seq, deadline_ms = next_sequence(), now_ms + unpack_struct('<I4', args, 21)
  local body = string_sub(args, 1, REQUEST_AT - 1) .. plan .. terms .. rest .. blocks
    .. pack(HEAD_FORMAT, seq, seq, deadline_ms, now_ms, epoch_now, epoch_now, 0, 0, STATE.HELD, VERB.NONE, VERB.NONE)
  local record = pack('<BI3', KIND.RESERVATION, #body) .. body
  remember_operation(id, record)
  add_event(record)
  add_due('h', deadline_ms, id)
  return { seq, record }
end

local function source(keys, args)
  begin_batch(keys[1], keys[2], keys[3], keys[4], keys[5])
  local answer, asked, rests, ids = begin_answer(#args - 1), {}, {}, {}
  for i = 2, #args do
    local cursor
    ids[i - 1] = string_sub(args[i], 1, OPERATION_SIZE)
    asked[i], cursor = SOURCING.read_request(args[i], REQUEST_AT)
    rests[i] = string_sub(args[i], cursor)
  end
  load_operations(ids)
  read_cards()
  local settings = SOURCING.load_settings(keys[6], keys[7], keys[8])
  for i = 2, #args do
    answer[i + 2] = decide_source(args[i], settings, asked[i], rests[i], tonumber(args[1]), #args)
  end
  end_answer(answer)
  --@writes
  write_batch()
  return answer
end
