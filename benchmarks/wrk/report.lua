-- What every wrk script prints at the end, for the program that started it to read.

function report(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\n@result {"requests": %d, "micros": %d, "refused": %d, "broken": %d, '
      .. '"p50": %d, "p90": %d, "p99": %d, "p999": %d, "max": %d}\n',
    summary.requests, summary.duration, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50), latency:percentile(90), latency:percentile(99), latency:percentile(99.9),
    latency.max))
end
