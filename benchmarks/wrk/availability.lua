-- Availability of a random SKU. Arguments: ignored, number of SKUs. With BINCARD_API_KEY in the environment every
-- request sends it.
local folder = debug.getinfo(1, 'S').source:match('^@(.*/)')
dofile(folder .. 'report.lua')

local skus
local key = os.getenv('BINCARD_API_KEY')
local bearer = key and 'Authorization: Bearer ' .. key .. '\r\n' or ''

function init(arguments)
  skus = tonumber(arguments[2])
  math.randomseed(8451)
end

function request()
  return string.format('GET /v1/availability/S-%07d HTTP/1.1\r\nHost: localhost\r\n%s\r\n',
    math.random(0, skus - 1), bearer)
end

function done(summary, latency)
  report(summary, latency)
end
