-- The bare application's only answer.
local folder = debug.getinfo(1, 'S').source:match('^@(.*/)')
dofile(folder .. 'report.lua')

function done(summary, latency)
  report(summary, latency)
end
