-- Store the numbers of a limit, and admit the tasks that wait for it under these numbers.
--
-- The times that an earlier rate had reserved are forgotten. Safe to repeat.
--
-- KEYS: limits, rate, events
-- ARGV: name, numbers (concurrency|count|period_ms|burst), used_ms, now_ms, event_cap
-- RETURNS: 1 if the numbers are new or changed, else 0
-- USES: check_types, event, limits

check('HLEN', limits)
check('XLEN', events)
local old = redis.call('HGET', limits, name)
local is_same = old and string.sub(old, 1, #numbers + 1) == numbers .. '|'
local used = math.max(tonumber(used_ms), number(old and string.match(old, '(%d*)$'), 0, LARGEST) or 0)
redis.call('HSET', limits, name, numbers .. '|' .. whole(used))
if is_same then
  return 0
end
redis.call('DEL', rate)
release_by_limit(name)
return 1
