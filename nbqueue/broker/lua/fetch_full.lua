-- Take up to `limit` of the oldest pending tasks, with a lease: fetch.lua for all kinds of tasks.
--
-- Each task is in active and in lease, with a token that only its holder knows, or still pending.
-- Ids without a task, or of a task that is not pending, are dropped from the line: they could
-- never run. A paused queue gives nothing, and one that has as many active tasks as it may have
-- neither. A task that its limit keeps back is parked, and so is one that waits for the lock of
-- another; the next in the line come instead, of which 500 are looked at. Not safe to repeat blindly: what was taken
-- stays taken until its lease runs out.
--
-- KEYS: pending, paused, active, lease, events, settings
-- ARGV: task_prefix, limit, now_ms, lease_until (Unix seconds, never whole), token, event_cap
-- RETURNS: the string PAUSED or FULL, or the reply of lease_tasks.lua
-- USES: check_types, event, lease_tasks

local MOST_LOOKED_AT = 500
local SLICE = 100

if redis.call('EXISTS', paused) == 1 then
  return 'PAUSED'
end
local most = tonumber(limit)
local allowed = whole_number(redis.pcall('HGET', settings, 'concurrency'), 1, LARGEST)
if allowed then
  most = math.min(most, allowed - redis.call('LLEN', active))
  if most <= 0 then
    return 'FULL'
  end
end
local line = redis.call('LRANGE', pending, -most, -1)
if #line == 0 then
  return {}
end
check('LLEN', active)
check('ZCARD', lease)
check('XLEN', events)
local looked_at = 0
while true do
  local used = 0
  while used < #line and #ids < most do
    lease_task(line[#line - used], 'pending')
    used = used + 1
  end
  looked_at = looked_at + used
  redis.call('LTRIM', pending, 0, -used - 1)
  if #parked == 0 or #ids == most or looked_at >= MOST_LOOKED_AT then
    break
  end
  line = redis.call('LRANGE', pending, -SLICE, -1)
  if #line == 0 then
    break
  end
end
return write_leases()
