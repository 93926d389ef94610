-- Reads the server's clock: milliseconds since 1970 (UTC). Called once a script, so that all requests
-- of a batch share one moment. Tests swap this include for one that they can turn.
local function read_clock()
  local time = redis.call('TIME')
  return time[1] * 1000 + math_floor(time[2] / 1000)
end
