-- Reads the server's clock: milliseconds since 1970 (UTC). Called once a script, so that all requests
-- of a batch share one moment. It stands still at `least` until it has come so far. Tests swap this include for a
-- clock that they can turn, back as well.
local function read_clock(least)
  local time = redis.call('TIME')
  return math_max(time[1] * 1000 + math_floor(time[2] / 1000), least)
end
