-- The number of tasks that a worker may fetch now.
--
-- `fetch_room()`: returns that number, at most `limit`; or nil and a refusal, PAUSED or FULL (the queue
-- has as many active tasks as its concurrency allows).
--
-- Expects the locals `paused`, `limit`, `settings` and `active`.
-- USES: numbers

local function fetch_room()
  if redis.call('EXISTS', paused) == 1 then
    return nil, 'PAUSED'
  end
  local most = tonumber(limit)
  local allowed = whole_number(redis.pcall('HGET', settings, 'concurrency'), 1, LARGEST)
  if allowed then
    most = math.min(most, allowed - redis.call('LLEN', active))
    if most <= 0 then
      return nil, 'FULL'
    end
  end
  return most
end
