-- Fetch up to `limit` tasks that are parked for a requirement which the caller meets.
--
-- They come from the list of that requirement, the longest parked first, and never become pending, where any worker
-- could fetch them. A paused queue, the limit of the queue and limits of tasks count as in fetch_full.lua. Not safe
-- to repeat: fetched tasks stay fetched until their lease expires.
--
-- KEYS: paused, active, lease, events, settings, scheduled, requirements
-- ARGV: task_prefix, limit, now_ms, lease_until (Unix seconds, never whole), token, event_cap,
--   requirement
-- RETURNS: the string PAUSED or FULL, or the reply of lease_tasks.lua
-- USES: check_types, fetch_room, lease_tasks

local MOST_LOOKED_AT = 500

local most, refusal = fetch_room()
if refusal then
  return refusal
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
