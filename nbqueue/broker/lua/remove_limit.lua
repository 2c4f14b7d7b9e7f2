-- Forget a limit: all tasks parked for it may run, some at once and the others soon.
--
-- With `idle_before`, only if the limit was last used before that, and no task waits for it or has a place. Safe to
-- repeat.
--
-- KEYS: limits, holders, rate, waiters, events
-- ARGV: name, idle_before (Unix ms; empty: in any case), now_ms, event_cap
-- RETURNS: 1 if it is forgotten, else 0
-- USES: check_types, event, limits

check('HLEN', limits)
check('ZCARD', holders, waiters)
check('XLEN', events)
local old = redis.call('HGET', limits, name)
if not old then
  return 0
end
if idle_before ~= '' then
  local used = number(string.match(old, '(%d*)$'), 0, LARGEST) or 0
  if used >= tonumber(idle_before) then
    return 0
  end
  prune_limit(name)
  if redis.call('ZCARD', holders) > 0 or redis.call('ZCARD', waiters) > 0 then
    return 0
  end
end
redis.call('HDEL', limits, name)
redis.call('DEL', rate, holders)
release_by_limit(name)
return 1
