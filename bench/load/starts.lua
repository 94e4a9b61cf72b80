-- Plays a file of ready-made HTTP requests, each at most once, and prints what happened as one line of JSON.
-- wrk -s starts.lua URL -- FILE RECORD_BYTES RECORDS FIRST_RECORD RECORDS_PER_THREAD
-- The file is a ring: the threads' stretches begin at FIRST_RECORD and follow each other.

local threads = {}

function setup(thread)
  thread:set("slice", #threads)
  table.insert(threads, thread)
end

function init(args)
  record_bytes = tonumber(args[2])
  records = tonumber(args[3])
  left = tonumber(args[5])
  position = (tonumber(args[4]) + slice * left) % records
  sent = 0
  exhausted = 0
  file = assert(io.open(args[1], "rb"))
  file:seek("set", position * record_bytes)
end

function request()
  if left == 0 then
    exhausted = exhausted + 1
    wrk.thread:stop()
    return record  -- something must be sent while the thread stops; its key makes it a replay
  end
  if position == records then
    position = 0
    file:seek("set", 0)
  end
  position = position + 1
  left = left - 1
  sent = sent + 1
  record = file:read(record_bytes)
  return record
end

function done(summary, latency, requests)
  local sent_total, exhausted_total = 0, 0
  for _, thread in ipairs(threads) do
    sent_total = sent_total + thread:get("sent")
    exhausted_total = exhausted_total + thread:get("exhausted")
  end
  local errors = summary.errors
  io.write(string.format(
    '{"duration_us":%d,"answered":%d,"sent":%d,"exhausted":%d,"refused":%d,"connect_errors":%d,' ..
    '"read_errors":%d,"write_errors":%d,"timeouts":%d,"p50_us":%d,"p90_us":%d,"p99_us":%d,"max_us":%d}\n',
    summary.duration, summary.requests, sent_total, exhausted_total, errors.status, errors.connect,
    errors.read, errors.write, errors.timeout, latency:percentile(50), latency:percentile(90),
    latency:percentile(99), latency.max))
end
