-- Reports what wrk measured as one line of JSON; webhook.lua starts with this.
done = function(summary, latency)
  local errors = summary.errors
  io.stdout:write(string.format(
    '\n{"requests": %d, "seconds": %.6f, "p50": %.3f, "p90": %.3f, "p99": %.3f, "worst": %.3f, "errors": %d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(90) / 1e3,
    latency:percentile(99) / 1e3, latency.max / 1e3,
    errors.status + errors.connect + errors.read + errors.write + errors.timeout))
end
