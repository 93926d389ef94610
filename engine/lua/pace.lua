-- Sets the skew between the server's clock and engine time, after the clock made a step. Whoever knows the skew as it
-- is may set it; of several who noticed the same step the first does, and the others learn what they are told.
--@verb pace
--@flags allow-oom
--@include builtins state clock card claims record batch
--@key meta inv:{p}:meta hash rw
--@arg request... skew(i6) ahead(I6) least(I6): the skew that the caller knows; how far engine time is ahead of the
--  caller's watch, or 0; an engine time that has come by that watch, or 0
--@answer paced [skew, whether this request set it: 1 or 0]

local function pace(keys, args)
  begin_batch(keys[1])
  local answer, raw = begin_answer(#args), read_clock()
  local before = tonumber(redis.call('HGET', key_of.meta, 'skew') or 0)
  local skew = before
  for i = 1, #args do
    local known, ahead, least = unpack_struct('<i6I6I6', args[i])
    local is_due
    if ahead > 0 then
      is_due = known == skew and now_ms - ahead >= least - RUN.STEP_MS
      if known ~= skew and least > 0 and raw - skew >= least - RUN.STEP_MS then
        -- Another release beside this one has set it right; only what this one remembers is of before.
        now_ms = raw - skew
        RUN.times[key_of.meta], RUN.slips[key_of.meta] = now_ms, nil
      end
    else
      is_due = known == skew and least > 0 and raw - skew < math_max(least, now_ms) - RUN.STEP_MS
    end
    if is_due then
      -- Where the clock went back, time goes on from where it is, so that no hold of these moments is short.
      now_ms = now_ms - ahead
      skew = raw - now_ms
      RUN.times[key_of.meta], RUN.slips[key_of.meta] = now_ms, nil
    end
    answer[i + 3] = { skew, is_due and 1 or 0 }
  end
  --@writes
  if skew ~= before then
    redis.call('HSET', key_of.meta, 'skew', string_format('%d', skew))
  end
  answer[1] = now_ms
  return answer
end
