-- Reads the server's clock: milliseconds since 1970 (UTC). Called once a script, so that all requests
-- of a batch share one moment. It stands still while the clock is behind what it was: `is_raw` follows it
-- back. Tests swap this include for one that they can turn.
local function read_clock(is_raw)
  local time = redis.call('TIME')
  local ms = time[1] * 1000 + math_floor(time[2] / 1000)
  if is_raw or ms > RUN.clock then
    RUN.clock = ms
  end
  return RUN.clock
end
