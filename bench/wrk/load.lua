-- What wrk sends, by WRK_METHOD, WRK_BODY (bytes) and WRK_CLOSE=1 (one request a connection); prints one line of JSON.
wrk.method = os.getenv("WRK_METHOD") or "GET"
local size = tonumber(os.getenv("WRK_BODY") or "0")
if size > 0 then
  wrk.body = string.rep("x", size)
  wrk.headers["Content-Type"] = "application/octet-stream"
end
if os.getenv("WRK_CLOSE") == "1" then
  wrk.headers["Connection"] = "close"
end

done = function(summary, latency)
  local errors = summary.errors
  -- Times are in microseconds.
  io.write(string.format(
    'RESULT {"requests":%d,"us":%d,"p50":%d,"p99":%d,"p999":%d,"failed":%d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), latency:percentile(99.9),
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
