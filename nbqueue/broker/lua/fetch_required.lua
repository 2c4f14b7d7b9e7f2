-- Take up to `limit` of the tasks that are parked for a requirement, with a lease: a worker asks that meets it.
--
-- They go to it from where they wait, the longest first, and not through the line, where a worker might
-- fetch them that does not meet it. Paused queues, limits of queues, and limits of tasks count as for
-- fetch_full.lua. Not safe to repeat blindly: what was taken stays taken until its lease runs out.
--
-- KEYS: paused, active, lease, events, settings, scheduled, requirements
-- ARGV: task_prefix, limit, now_ms, lease_until (Unix seconds, never whole), token, event_cap,
--   requirement
-- RETURNS: the string PAUSED or FULL, or the reply of lease_tasks.lua
-- USES: check_types, event, lease_tasks

local MOST_LOOKED_AT = 500

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
local what = 'need:' .. requirement
local list = own_set('wait:' .. what)
check('LLEN', active)
check('ZCARD', lease, scheduled, list)
check('SCARD', requirements)
check('XLEN', events)
for _ = 1, MOST_LOOKED_AT do
  local id = #ids < most and redis.call('ZRANGE', list, 0, 0)[1]
  if not id then
    break
  end
  redis.call('ZREM', list, id)
  if is_parked(id, what) then
    redis.call('ZREM', scheduled, id)
    lease_task(id, 'scheduled', now_ms .. '000000', TURN)
  end
end
if redis.call('EXISTS', list) == 0 then
  redis.call('SREM', requirements, requirement)
end
return write_leases()
