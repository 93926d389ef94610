#!lua
-- The yardstick: check and decrement, nothing else. It keeps no record, no deadline, no idempotency,
-- no event, and there is nothing to commit or release.
local free = tonumber(redis.call('GET', KEYS[1]) or '0')
local wanted = tonumber(ARGV[1])
if free < wanted then
  return -1
end
return redis.call('DECRBY', KEYS[1], wanted)
