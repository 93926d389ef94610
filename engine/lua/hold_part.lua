-- Holds the lines of a basket that lie in one partition. What becomes of them is decided on the basket's home.
--@verb hold_part
--@flags
--@include builtins state clock card claims record batch terms steps lapse hold parts replan offers
--@key meta inv:{p}:meta hash rw
--@key operations inv:{p}:ops hash rw
--@key due inv:{p}:due zset rw
--@key log inv:{p}:log stream w
--@key stock inv:{p}:stock hash rw
--@arg retention_ms how long a finished reservation is remembered
--@arg request... kind(B) size(I3) id(12) fingerprint(8) seek_ms(I4) route(H) plan followed(H, I7) terms: a
--  reservation's record as far as the caller makes it; seek_ms is when somebody must ask the home what was decided.
--  A byte behind it says that what is inbound may be promised
--@answer superseded [word]: the part belongs to a later attempt, or was told what was decided
--@answer stale [word, followed(H, I7)]: an earlier attempt holds units; tell it that it is over, then repeat
--@answer repeated [word]
--@answer sku_not_found [word, seq, position index...]
--@answer not_stocked [word, seq, position index...]
--@answer overdue [word]: as in reserve
--@answer insufficient_stock [word, seq, position index, available, requested, ...]
--@answer held integer: the sequence of the effect
--@event part the record behind its size

-- What an earlier attempt, or an earlier sending, means for this one; nil where nothing stands in its way.
local function meet_prior(prior, request)
  if string_byte(prior) ~= KIND.PART then
    return { 'superseded' }
  end
  local epoch, seq, prior_epoch, prior_seq
  epoch, seq = followed_by(request)
  prior_epoch, prior_seq = followed_by(prior)
  local is_open = decode_head(prior).state <= STATE.COMMITTED
  if prior_epoch > epoch or prior_epoch == epoch and prior_seq > seq then
    return { 'superseded' }
  elseif not is_open then
    return nil
  end
  return prior_epoch == epoch and prior_seq == seq and { 'repeated' }
    or { 'stale', pack('<HI7', prior_epoch, prior_seq) }
end

-- Holds a part for a channel, which may have fences, or of what is inbound. Returns a refusal, or nothing.
local function hold_by_terms(id, request, retention_ms, requests)
  local change = OFFERS.open_new(id, request, (REPLAN.read_plan(request, PLAN_AT)))
  local last = OFFERS.rest_end(request)
  local refusal = REPLAN.refuse(change, #request > last and OFFERS.room_with_inbound or TERMS.room)
  if refusal and refusal[1] == 'insufficient_stock' and make_room(retention_ms, requests) then
    return hold_by_terms(id, request, retention_ms, requests)
  elseif refusal then
    return refusal[1] == 'insufficient_stock' and sees_more_overdue and { 'overdue' } or refusal
  end
  OFFERS.preorder(change)
  OFFERS.begin(change, string_sub(request, 1, last))
end

local function hold_part(keys, args)
  begin_batch(keys[1], keys[2], keys[3], keys[4], keys[5])
  local priors, retention_ms, answer = load_requests(args), tonumber(args[1]), begin_answer(#args - 1)
  for i = 2, #args do
    local id, first, last = request_id[i], first_line[i], last_line[i]
    local prior = remembered[id] or priors[i - 1]
    local outcome = prior and meet_prior(prior, args[i])
    if not outcome and (TERMS.at(args[i]) or #args[i] > OFFERS.rest_end(args[i])) then
      outcome = hold_by_terms(id, args[i], retention_ms, #args) or last_seq
    end
    outcome = outcome or not can_hold(first, last) and refuse(first, last, retention_ms, #args)
    if not outcome then
      local blocks, seq, look_ms = hold_lines(first, last, id), next_sequence(), now_ms + request_ttl[i]
      local record = args[i] .. blocks .. pack(HEAD_FORMAT, seq, seq, look_ms, now_ms, epoch_now, epoch_now,
        0, 0, STATE.HELD, VERB.NONE, VERB.NONE)
      remember_operation(id, record)
      add_event(record)
      repairs[id] = look_ms
      outcome = seq
    end
    answer[i + 2] = outcome
  end
  end_answer(answer)
  --@writes
  write_batch()
  return answer
end
