-- Look at what parked tasks wait for, where the time for that has come: who may run now is pending.
--
-- The limits and the locks whose time came first, at most `limit`. Finds room that nobody gave up in
-- so many words: a rate allows the next, a lock ran out, a program in Go finished a task. Safe to
-- repeat.
--
-- KEYS: waiting, events
-- ARGV: limit, now_ms, event_cap
-- RETURNS: how many became pending or scheduled, and when to look again (Unix ms as text, empty:
--   nobody waits)
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
