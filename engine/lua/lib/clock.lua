-- The server's clock: milliseconds since 1970 (UTC). Read once a script, so that all requests of a batch share one
-- moment. For a partition, whose skew comes along, it never goes back. Where the clock did, engine time goes on from
-- RUN.times, what it was, and RUN.slips keeps by how much the clock is off since, below 0 where it is behind. A clock
-- that comes nearer to where it was than to where it went has returned, and engine time goes on from what it is once
-- more: it loses what passed between the calls before and after each step, so that holds of these moments last longer,
-- not shorter. A silence of more than RUN.STEP_MS tells of no step. Tests swap this include for a clock that they can
-- turn, back as well.

local function read_clock(meta, skew)
  local time = redis.call('TIME')
  local raw = time[1] * 1000 + math_floor(time[2] / 1000)
  local last = RUN.times[meta]
  if not last then
    return raw
  end
  local clock, slip = raw - skew, RUN.slips[meta] or 0
  if slip < 0 and clock - last > slip / 2 then
    slip = math_max(math_min(clock - last, RUN.STEP_MS), 0)
    RUN.slips[meta] = slip
  end
  if clock - slip < last then
    if clock - slip < last - RUN.SLACK_MS then
      RUN.slips[meta] = clock - last
    end
    return last + skew
  end
  return raw - slip
end
