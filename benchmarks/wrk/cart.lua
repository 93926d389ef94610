-- Reserves of one line, each committed as soon as it is answered. Arguments: prefix of the keys, number of SKUs. With
-- BINCARD_API_KEY in the environment every request sends it.
local folder = debug.getinfo(1, 'S').source:match('^@(.*/)')
dofile(folder .. 'report.lua')

local prefix, skus, count, held = nil, nil, 0, {}
local key = os.getenv('BINCARD_API_KEY')
local bearer = key and 'Authorization: Bearer ' .. key .. '\r\n' or ''

function init(arguments)
  prefix, skus = arguments[1], tonumber(arguments[2])
  math.randomseed(8451)
end

function request()
  local id = table.remove(held)
  if id then
    return 'POST /v1/reservations/' .. id .. '/commit HTTP/1.1\r\nHost: localhost\r\n' .. bearer
      .. 'Content-Length: 0\r\n\r\n'
  end
  count = count + 1
  local body = string.format(
    '{"lines":[{"sku":"S-%07d","quantity":1,"location":"w0"}],"ttl_seconds":86400}',
    math.random(0, skus - 1))
  return 'POST /v1/reservations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n' .. bearer
    .. 'Idempotency-Key: ' .. prefix .. count .. '\r\nContent-Length: ' .. #body .. '\r\n\r\n' .. body
end

function response(status, _, body)
  if status == 201 then
    held[#held + 1] = body:match('"id":"(r_[%w_-]+)"')
  end
end

function done(summary, latency)
  report(summary, latency)
end
