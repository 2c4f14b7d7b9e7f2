-- Fetch up to `limit` pending tasks with a lease, oldest first.
--
-- For all kinds of tasks; fetch.lua is faster, and describes the rest. A task that has to wait for its limit or for
-- the lock of another is parked, and the next ones are taken instead, of which 500 at most are looked at.
--
-- KEYS: pending, paused, active, lease, events, settings
-- ARGV: task_prefix, limit, now_ms, lease_until (Unix seconds, never whole), token, event_cap
-- RETURNS: the string PAUSED or FULL, or the reply of lease_tasks.lua
-- USES: check_types, fetch_room, lease_tasks

local MOST_LOOKED_AT = 500
local SLICE = 100

local most, refusal = fetch_room()
if refusal then
  return refusal
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
