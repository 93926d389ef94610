-- Keeps units of a position for one channel, or gives them back to all. See lib/terms.lua.
--@verb save_fence
--@flags
--@include builtins state clock card claims record batch terms
--@key meta inv:{p}:meta hash rw
--@key log inv:{p}:log stream w
--@key stock inv:{p}:stock hash rw
--@key locations inv:{p}:locations hash r
--@key channels inv:{p}:channels hash r
--@key fenced inv:{p}:fenced hash rw
--@arg request... caller(3) channel(1 + n) place(1 + n) sku(2 + n), then quantity(I6) spill(B): none to delete. A fence that
--  comes from another data set has behind it the units that are in use: used(I6)
--@answer location_not_found [word, seq]
--@answer channel_not_found [word, seq]
--@answer not_stocked [word, seq]
--@answer fence_not_found [word, seq]: there is none that could be deleted
--@answer fence_in_use [word, seq]: its channel holds units of it
--@answer unchanged [word, seq, remaining, used]
--@answer saved [seq, remaining, used]: of one that was deleted both are zero
--@event fence caller(3) channel(1 + n) place(1 + n) sku(2 + n) quantity(I6) spill(B) used(I6), as the request has them

local fence_counts -- channel -> how many fences it has, where this call changed it
local FENCE_RULES_SIZE = 7 -- of quantity and spill

-- Counts a fence that is made (1) or goes (-1).
local function count_fence(fenced, channel, step)
  local count = fence_counts[channel] or tonumber(redis.call('HGET', fenced, channel) or 0)
  fence_counts[channel] = count + step
end

-- Why a channel can have no fence at a place, or nil.
local function refuse_new_fence(keys, position, place, channel)
  if not position and redis.call('HEXISTS', keys[4], string_sub(place, 2, -2)) == 0 then
    return { 'location_not_found', last_seq }
  elseif redis.call('HEXISTS', keys[5], channel) == 0 then
    return { 'channel_not_found', last_seq }
  elseif not position then
    return { 'not_stocked', last_seq }
  end
  return nil
end

-- A fence of nothing, behind those that the position has.
local function add_fence(position, place, sku, channel)
  POLICY.add(card_of(position))
  local policy, fences = policy_of[position], TERMS.fences(place, sku)
  policy[POLICY.FLAGS] = policy[POLICY.FLAGS] + (#fences == 0 and POLICY.FENCED_HERE or 0)
  local fence = { channel = channel, remaining = 0, used = 0, spill = 0 }
  fences[#fences + 1] = fence
  return fence
end

-- Takes a fence away, with all units that remain in it.
local function remove_fence(position, place, sku, fence)
  TERMS.shift(position, place, sku, fence, -fence.remaining, 0)
  local policy, fences = policy_of[position], TERMS.fences(place, sku)
  for i = 1, #fences do
    if fences[i] == fence then
      table.remove(fences, i)
      break
    end
  end
  policy[POLICY.FLAGS] = policy[POLICY.FLAGS] - (#fences == 0 and POLICY.FENCED_HERE or 0)
end

local function decide_fence(keys, request, card)
  local _, channel, place, sku, cursor = unpack_struct('<c3Bc0Bc0Hc0', request)
  local position = load_position(card, place)
  local fence = position and TERMS.fence(position, place, sku, channel)
  if cursor > #request then
    if not fence then
      return { 'fence_not_found', last_seq }
    elseif fence.used > 0 then
      return { 'fence_in_use', last_seq }
    end
    remove_fence(position, place, sku, fence)
    count_fence(keys[6], channel, -1)
  else
    local quantity, spill = unpack_struct('<I6B', request, cursor)
    local used = fence and fence.used or 0
    if cursor + FENCE_RULES_SIZE <= #request then
      used = unpack_struct('<I6', request, cursor + FENCE_RULES_SIZE)
    end
    local remaining = math_max(0, quantity - used)
    if fence and fence.remaining == remaining and fence.used == used and fence.spill == spill then
      return { 'unchanged', last_seq, remaining, used }
    end
    local refusal = not fence and refuse_new_fence(keys, position, place, channel)
    if refusal then
      return refusal
    end
    if not fence then
      fence = add_fence(position, place, sku, channel)
      count_fence(keys[6], channel, 1)
    end
    fence.spill = spill
    TERMS.shift(position, place, sku, fence, remaining - fence.remaining, used - fence.used)
  end
  POLICY.settle(position)
  add_event(pack('<BI3', VERB.FENCE, #request) .. request)
  return { next_sequence(), fence.remaining, fence.used }
end

local function save_fence(keys, args)
  begin_batch(keys[1], nil, nil, keys[2], keys[3])
  fence_counts = {}
  local asked = {}
  for i = 1, #args do
    local _, _, _, sku = unpack_struct('<c3Bc0Bc0Hc0', args[i])
    asked[i] = want_card(sku)
  end
  read_cards()
  local answer = begin_answer(#args)
  for i = 1, #args do
    answer[i + 3] = decide_fence(keys, args[i], asked[i])
  end
  end_answer(answer)
  --@writes
  write_batch()
  for channel, count in pairs(fence_counts) do
    if count > 0 then
      redis.call('HSET', keys[6], channel, string_format('%d', count))
    else
      redis.call('HDEL', keys[6], channel)
    end
  end
  return answer
end
