-- Holds stock for new reservations: all lines of a request or none.
--@verb reserve
--@flags
--@include builtins state clock card claims record batch terms steps lapse hold
--@key meta inv:{p}:meta hash rw
--@key operations inv:{p}:ops hash rw
--@key due inv:{p}:due zset rw
--@key log inv:{p}:log stream w
--@key stock inv:{p}:stock hash rw
--@arg retention_ms how long a finished reservation is remembered
--@arg request... kind(B) size(I3) id(12) fingerprint(8) ttl_ms(I4) route(H) plan, what only the caller reads: the record as
--  far as the caller makes it, see lib/record.lua
--@answer replayed [word, record]
--@answer idempotency_mismatch [word]
--@answer sku_not_found [word, seq, position index...]
--@answer not_stocked [word, seq, position index...]
--@answer floating [word]: refused, but units that pools have chosen here may lie elsewhere; ask verb `source`
--@answer overdue [word]: refused, but more holds have lapsed than one call gives back; repeat
--@answer insufficient_stock [word, seq, position index, available, requested, ...]
--@answer held integer: the sequence of the effect
--@event reserve the record behind its size

local function replay_reserve(prior, request)
  -- One that has other lines by now may lie apart from its home, after a repartition.
  local is_apart = is_basket(prior) and decode_head(prior).state < STATE.PENDING
  if (is_apart or string_byte(prior) == KIND.RESERVATION) and string_sub(prior, AT.FINGERPRINT, AT.FINGERPRINT + 7)
    == string_sub(request, AT.FINGERPRINT, AT.FINGERPRINT + 7) then
    return { 'replayed', prior }
  end
  return { 'idempotency_mismatch' }
end

-- Whether one of the short positions has units that could make way.
local function is_floating(first, last)
  for n = first, last do
    local policy = policy_of[line_position[n]]
    if policy and policy[POLICY.FLOATING] > 0 and not fits(line_position[n], line_quantity[n]) then
      return true
    end
  end
  return false
end

-- Decides a request, the general way. Returns a refusal, or nothing and the numbers of the blocks.
local function decide_reserve(i, args, prior, retention_ms)
  if prior and not is_abandoned(prior) then
    return replay_reserve(prior, args[i])
  end
  local first, last = first_line[i], last_line[i]
  local refusal = not can_hold(first, last) and refuse(first, last, retention_ms, #args)
  if refusal then
    return refusal[1] == 'insufficient_stock' and is_floating(first, last) and { 'floating' } or refusal
  end
  return nil, hold_lines(first, last, request_id[i])
end

-- The usual request has one line, on the first position of a card that has room for a claim and no policy,
-- and it fits: that case is written out in the loop, as the rest of it, because a reserve is little else
-- than the interpreter's steps.
local function reserve(keys, args)
  begin_batch(keys[1], keys[2], keys[3], keys[4], keys[5])
  local priors, retention_ms = load_requests(args), tonumber(args[1])
  -- What the heads of all new reservations of this call end with.
  local new_head = pack('<I6HHHBBBB', now_ms, epoch_now, epoch_now, 0, 0, STATE.HELD, VERB.NONE, VERB.NONE)
  local answer, pack, remembered, written, events = begin_answer(#args - 1), pack, remembered, written, events
  local request_id, first_line, last_line, line_position, line_quantity, claim_room, added_claims, is_changed =
    request_id, first_line, last_line, line_position, line_quantity, claim_room, added_claims, is_changed
  local hand_of, held_of, allocated_of, unsellable_of = hand_of, held_of, allocated_of, unsellable_of
  for i = 2, #args do
    local id, n = request_id[i], first_line[i]
    local prior, card, refusal, blocks = remembered[id] or priors[i - 1], line_position[n]
    if not prior and card and card > 0 and last_line[i] == n and not policy_of[card] then
      local held, room = held_of[card] + line_quantity[n], claim_room[card]
      local most = hand_of[card] - unsellable_of[card] - allocated_of[card]
      if most >= held and room >= CLAIM_SIZE then
        local added = added_claims[card]
        held_of[card], claim_room[card], blocks = held, room - CLAIM_SIZE, block_of[card]
        added_claims[card] = added and added .. id or id
        if not is_changed[card] then
          mark_changed(card)
        end
      elseif most < held and has_swept and not sees_more_overdue then
        refusal = { 'insufficient_stock', last_seq, 0, math_max(most - held_of[card], 0), line_quantity[n] }
      end
    end
    if not (blocks or refusal) then
      refusal, blocks = decide_reserve(i, args, prior, retention_ms)
    end
    if refusal then
      answer[i + 2] = refusal
    else
      local seq, deadline_ms, size, count = last_seq + 1, now_ms + request_ttl[i], written_size, event_count + 1
      local record = args[i] .. blocks .. pack('<I7I7I6', seq, seq, deadline_ms) .. new_head
      last_seq, written_size, event_count = seq, size + 2, count
      remembered[id], written[size + 1], written[size + 2], events[count + 1] = record, id, record, record
      add_due('h', deadline_ms, id)
      answer[i + 2] = seq
    end
  end
  end_answer(answer)
  --@writes
  write_batch()
  return answer
end
