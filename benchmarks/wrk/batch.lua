-- Batches of reserves of one line. Arguments: prefix of the keys, number of SKUs, reserves a batch.
local folder = debug.getinfo(1, 'S').source:match('^@(.*/)')
dofile(folder .. 'report.lua')

local prefix, skus, size, count

function init(arguments)
  prefix, skus, size, count = arguments[1], tonumber(arguments[2]), tonumber(arguments[3]), 0
  math.randomseed(8451)
end

function request()
  local operations = {}
  for i = 1, size do
    count = count + 1
    operations[i] = string.format(
      '{"op":"reserve","key":"%s%d","body":{"lines":[{"sku":"S-%07d","quantity":1,"location":"w0"}],'
        .. '"ttl_seconds":86400}}',
      prefix, count, math.random(0, skus - 1))
  end
  local body = '{"operations":[' .. table.concat(operations, ',') .. ']}'
  return 'POST /v1/reservations/batch HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n'
    .. 'Content-Length: ' .. #body .. '\r\n\r\n' .. body
end

function done(summary, latency)
  report(summary, latency)
end
