-- Make parked tasks pending that may run now, as their limit or lock allows it.
--
-- Looks at the limits and locks whose time has come, at most `limit`, first those that are longest overdue. This
-- finds room that no script announced: a rate allows the next task, a lock expired, or a program in Go finished a
-- task. Safe to repeat.
--
-- KEYS: waiting, events
-- ARGV: limit, now_ms, event_cap
-- RETURNS: how many became pending or scheduled, and when to look again (Unix ms as text, empty:
--   no task waits)
-- USES: check_types, event, limits, locks

check('XLEN', events)
local unparked = 0
for _, what in ipairs(redis.call('ZRANGEBYSCORE', waiting, '-inf', now_ms, 'LIMIT', 0, limit)) do
  local kind, name = string.match(what, '^(%a+):(.*)$')
  if kind == 'limit' then
    unparked = unparked + release_by_limit(name)
  elseif kind == 'lock' then
    unparked = unparked + recheck_lock(name)
  else
    redis.call('ZREM', waiting, what)
  end
end
local first = redis.call('ZRANGE', waiting, 0, 0, 'WITHSCORES')
return { unparked, first[2] and string.format('%.0f', tonumber(first[2])) or '' }
