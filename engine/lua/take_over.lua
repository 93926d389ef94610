-- Takes the books of a partition over for the process that the server is now. What another process had last may have
-- been restored, rolled back or failed over, so the new one goes on in an epoch of its own, above all that were ever
-- seen. For books that it has already, the call only writes what was there: something for WAIT to wait for.
--@verb take_over
--@flags allow-oom
--@include builtins state clock card claims record batch
--@key meta inv:{p}:meta hash rw
--@arg request... known(I6) about(I6): the highest epoch that the caller has seen; what engine time must be by its own
--  watch, or 0
--@answer taken_over integer: the epoch

local LAST_EPOCH = 65535 -- of the two bytes that records have for it

-- An epoch that no earlier one of this hour reaches: one more each four hours since 2026. Books that were restored
-- while nobody ran who knew the last epoch do not come by its number a second time. A clock that is far off leaves
-- thousands.
local function epoch_by_clock()
  return math_min(math_floor((now_ms - 1767225600000) / 14400000), 60000)
end

local function next_epoch(known, run)
  if not run and last_seq == 0 and known <= epoch_now then
    return epoch_now -- a new data set
  end
  local epoch = math_max(epoch_now, known, epoch_by_clock()) + 1
  if epoch > LAST_EPOCH then
    error({ err = 'EPOCHSPENT there is no further epoch: export the stock into a new data set' })
  end
  return epoch
end

local FAR_MS = 2000 -- the call may have been on its way for a while

-- Another server's clock, or that of another start, may be another one: engine time goes on where it was.
local function fit_skew(raw, skew, about)
  local off = raw - skew - about
  if about > 0 and (off > FAR_MS or off < -FAR_MS) then
    return raw - about
  end
  return skew
end

local function take_over(keys, args)
  begin_batch(keys[1])
  local head = redis.call('HMGET', key_of.meta, 'run', 'dataset', 'skew')
  if (head[2] or '') ~= RUN.dataset then
    error({ err = 'OTHERDATA this is not the data set that was opened: start again' })
  end
  local raw, skew = read_clock(), tonumber(head[3] or 0)
  if head[1] ~= RUN.this then
    local known, about = epoch_now, 0
    for i = 1, #args do
      local seen, time = unpack_struct('<I6I6', args[i])
      known, about = math_max(known, seen), math_max(about, time)
    end
    epoch_now, skew = next_epoch(known, head[1]), fit_skew(raw, skew, about)
    now_ms = raw - skew
    RUN.horizons[key_of.meta] = about > 0 and about or nil
  end
  local answer = begin_answer(#args)
  for i = 1, #args do
    answer[i + 3] = epoch_now
  end
  --@writes
  redis.call('HSET', key_of.meta, 'epoch', string_format('%d', epoch_now), 'run', RUN.this)
  if skew ~= tonumber(head[3] or 0) then
    redis.call('HSET', key_of.meta, 'skew', string_format('%d', skew))
  end
  if head[1] ~= RUN.this then
    -- What this process remembers of the books is of the time when it had them before.
    RUN.times[key_of.meta], RUN.slips[key_of.meta] = now_ms, nil
  end
  return answer
end
