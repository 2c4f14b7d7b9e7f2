-- Park a task that needs another worker than the one that fetched it: no attempt is counted.
--
-- Only the holder of its lease can do this. It waits in a list for its requirement, of which workers
-- that meet it are told, and from which they take it; `requirements` names these lists. A place that it
-- holds under its limit is kept for the moment that this takes, as long as nobody needs it. After an
-- hour it is pending again, and parked again by the next who fetches it; so the list need not last
-- longer. Safe to repeat.
--
-- KEYS: task, active, lease, events, requirements
-- ARGV: id, fence, requirement, now_ms, event_cap
-- RETURNS: 1, or 0 if the caller no longer held the task
-- USES: check_types, numbers, event, fence, capacity

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
