-- Park a fetched task that needs another worker; the attempt is not counted.
--
-- Only for the holder of its lease. The task waits in a list for its requirement, named in `requirements`, and
-- workers that meet it take the task from there. It keeps its place under its limit until another task needs that.
-- After an hour it is pending again, so the list expires after that. Safe to repeat.
--
-- KEYS: task, active, lease, events, requirements
-- ARGV: id, fence, requirement, now_ms, event_cap
-- RETURNS: 1, or 0 if the caller no longer held the task
-- USES: check_types, numbers, event, fence, capacity, limits

local SECONDS = 3600
local MOST_GONE = 3

if not is_held(lease, task, id, fence, nil, true) then
  return 0
end
check('LLEN', active)
check('SCARD', requirements)
check('XLEN', events)
local what = 'need:' .. requirement
local list = own_set('wait:' .. what)
check('ZCARD', list)
for _, other in ipairs(redis.call('ZRANGE', list, 0, MOST_GONE - 1)) do
  -- Programs in Go delete tasks, and leave their place behind.
  if not is_parked(other, what) then
    redis.call('ZREM', list, other)
  end
end
release(active, lease, id)
add(task, 'nbq:attempt', -1)
park(id, what, true, SECONDS)
redis.call('SADD', requirements, requirement)
redis.call('EXPIRE', requirements, 2 * SECONDS)
redis.call('EXPIRE', list, 2 * SECONDS)
event(events, event_cap, now_ms, 'parked', { id })
publish(own_keys .. 'wake', 'need ' .. requirement)
announce_capacity()
return 1
