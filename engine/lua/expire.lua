-- Gives back holds whose deadline has passed.
--@verb expire
--@flags allow-oom
--@include builtins state clock card claims record batch terms steps lapse
--@key meta inv:{p}:meta hash rw
--@key operations inv:{p}:ops hash rw
--@key due inv:{p}:due zset rw
--@key log inv:{p}:log stream w
--@key stock inv:{p}:stock hash rw
--@arg retention_ms how long a finished reservation is remembered
--@arg request... limit(H): about how many; what fell due together is given back together; horizon(I6), where the
--  caller has a watch: the engine time that has come by it
--@answer expired [how many, whether more are due: 1 or 0, whether there is something to repair: 1 or 0], and
--  while time goes on though the clock went back: by how much
--@event expire id(12) operation(12) route(H) plan positions with progress(B) tail whole(B) deltas

-- Whether there is something to repair by now.
local function has_repairs()
  return next(repairs) ~= nil or #list_repairs(1) > 0
end

-- By how much the clock is behind, where no skew says so yet.
local function clock_behind()
  local slip = RUN.slips[key_of.meta] or 0
  return slip < -RUN.STEP_MS and -slip or nil
end

local function expire(keys, args)
  begin_batch(keys[1], keys[2], keys[3], keys[4], keys[5])
  local answer, retention_ms = begin_answer(#args - 1), tonumber(args[1])
  if #args[2] > 2 then
    RUN.horizons[key_of.meta] = unpack_struct('<xxI6', args[2])
  end
  local count, more = lapse_due(unpack_struct('<H', args[2]), retention_ms, 1)
  answer[4] = { count, more and 1 or 0, has_repairs() and 1 or 0, clock_behind() }
  -- Further requests of the call find that it has been done.
  for i = 3, #args do
    answer[i + 2] = { 0, more and 1 or 0, 0 }
  end
  end_answer(answer)
  --@writes
  write_batch()
  return answer
end
