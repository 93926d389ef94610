-- Holds stock for new reservations whose places are decided here: by channel, pool and strategy.
--@verb source
--@flags
--@include builtins state clock card claims record batch terms steps lapse places replan rooms floating sourcing
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
--@event replanned id(12) operation(12) size(I4) record: a hold that made way

local REQUEST_AT = 27 -- behind id, fingerprint, time to live and route

local function replay_source(prior, args)
  -- One that has other lines by now may lie in several partitions.
  local is_reservation = string_byte(prior) == KIND.RESERVATION
    or is_basket(prior) and decode_head(prior).state < STATE.PENDING
  if is_reservation and string_sub(prior, AT.FINGERPRINT, AT.FINGERPRINT + 7) == string_sub(args, 13, 20) then
    return { 'replayed', prior }
  end
  return { 'idempotency_mismatch' }
end

-- The terms of what a request holds.
local function terms_of(state)
  local request, bound, bound_at, floats = state.request, {}, {}, false
  local channel = state.settings.channels[request.channel] and request.channel or ''
  for i = 1, #request.lines do
    local line = request.lines[i]
    if line.is_bound then
      bound[#bound + 1], bound_at[line.sku] = pack('B', i - 1), (bound_at[line.sku] or '') .. line.place
    else
      floats = true
    end
  end
  local pools = floats and request.pools or ''
  return { channel = channel, pools = pools, bound = pools ~= '' and concat(bound) or '', bound_at = bound_at }
end

-- Moves held units of a reservation from one place to another, for good.
local function rebind(move, retention_ms)
  local raw, lines, target = remembered[move.id], {}, nil
  for _, line in ipairs((REPLAN.read(raw))) do
    if line.sku == move.sku and line.place == move.from then
      line.quantity, line.held = line.quantity - move.quantity, line.held - move.quantity
    elseif line.sku == move.sku and line.place == move.to then
      line.quantity, line.held, target = line.quantity + move.quantity, line.held + move.quantity, line
    end
    if line.quantity > 0 then
      lines[#lines + 1] = line
    end
  end
  if not target then
    lines[#lines + 1] = {
      sku = move.sku, place = move.to, quantity = move.quantity, held = move.quantity, committed = 0, fulfilled = 0,
      released = 0,
    }
  end
  local request = { operation = NO_OPERATION, fingerprint = NO_FINGERPRINT, retention_ms = retention_ms }
  REPLAN.apply(REPLAN.open(move.id, raw, lines), request)
end

-- Holds what was taken for trial: moves what makes way, then the units themselves. Returns plan, terms and blocks of
-- the record.
local function hold_chosen(state, id, retention_ms)
  local request, blocks, plan = state.request, {}, {}
  ROOMS.undo_trial(request.trial, 0)
  -- In the order in which they were tried, no place ever has more than it holds.
  for i = 1, #state.moves do
    rebind(state.moves[i], retention_ms)
  end
  local terms = terms_of(state)
  for i = 1, #request.lines do
    local line = request.lines[i]
    local position = load_position(line.card, line.place)
    if terms.pools ~= '' and not line.is_bound and not policy_of[position] then
      POLICY.add(card_of(position))
    end
    if request.from_inbound and policy_of[position] then
      local policy = policy_of[position]
      local room = math_max(0, TERMS.room(position, line.place, line.sku, terms.channel))
      policy[POLICY.PREORDERED] = policy[POLICY.PREORDERED] + math_max(0, line.quantity - room)
    end
    held_of[position] = held_of[position] + line.quantity
    mark_changed(position)
    blocks[i] = add_claim(card_of(position), id)
    TERMS.follow(terms, i, position, line.place, line.sku, line.quantity, 0, 0)
    plan[i] = pack('<I5B', line.quantity, #line.place) .. line.place .. pack('<H', #line.sku) .. line.sku
  end
  local positions = pack('<B', #plan) .. concat(plan)
  -- Also where they say nothing: by them a replay knows that places were chosen.
  return pack('<H', #positions) .. positions, TERMS.pack(terms.channel, terms.pools, terms.bound), concat(blocks)
end

local function decide_source(args, settings, request, rest, retention_ms, requests)
  local id = string_sub(args, 1, OPERATION_SIZE)
  local prior = remembered[id]
  if prior and not is_abandoned(prior) then
    return replay_source(prior, args)
  end
  local state = { settings = settings, request = request }
  local refusal = SOURCING.decide(state)
  if refusal and refusal[1] == 'insufficient_stock' and make_room(retention_ms, requests) then
    refusal = SOURCING.decide(state)
  end
  if refusal then
    return sees_more_overdue and { 'overdue' } or refusal
  end
  local plan, terms, blocks = hold_chosen(state, id, retention_ms)
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
  local settings = ROOMS.load_settings(keys[6], keys[7], keys[8])
  for i = 2, #args do
    answer[i + 2] = decide_source(args[i], settings, asked[i], rests[i], tonumber(args[1]), #args)
  end
  end_answer(answer)
  --@writes
  write_batch()
  return answer
end
