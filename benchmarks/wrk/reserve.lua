-- Reserves of one line, each with a key of its own. Arguments: prefix of the keys, number of SKUs.
local folder = debug.getinfo(1, 'S').source:match('^@(.*/)')
dofile(folder .. 'report.lua')

local prefix, skus, count

function init(arguments)
  prefix, skus, count = arguments[1], tonumber(arguments[2]), 0
  math.randomseed(8451)
end

function request()
  count = count + 1
  local body = string.format(
    '{"lines":[{"sku":"S-%07d","quantity":1,"location":"w0"}],"ttl_seconds":86400}',
    math.random(0, skus - 1))
  return 'POST /v1/reservations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n'
    .. 'Idempotency-Key: ' .. prefix .. count .. '\r\nContent-Length: ' .. #body .. '\r\n\r\n' .. body
end

function done(summary, latency)
  report(summary, latency)
end
