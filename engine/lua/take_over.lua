-- Takes the books of a partition over for the process that the server is now. What another process had last may have
-- been restored, rolled back or failed over, so the new one goes on in an epoch of its own, above all that were ever
-- seen. For books that it has already, the call only writes what was there: something for WAIT to wait for.
--@verb take_over
--@flags allow-oom
--@include builtins state clock card claims record batch
--@key meta inv:{p}:meta hash rw
--@arg request... known(I6): the highest epoch that the caller has seen
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

local function take_over(keys, args)
  begin_batch(keys[1])
  local head = redis.call('HMGET', meta_key, 'run', 'dataset')
  if (head[2] or '') ~= RUN.dataset then
    error({ err = 'OTHERDATA this is not the data set that was opened: start again' })
  end
  if head[1] ~= RUN.this then
    local known = 0
    for i = 1, #args do
      known = math_max(known, (unpack_struct('<I6', args[i])))
    end
    epoch_now = next_epoch(known, head[1])
  end
  local answer = begin_answer(#args)
  for i = 1, #args do
    answer[i + 3] = epoch_now
  end
  --@writes
  redis.call('HSET', meta_key, 'epoch', string_format('%d', epoch_now), 'run', RUN.this)
  return answer
end
