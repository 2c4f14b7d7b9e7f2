-- Pause or resume a schedule, and notify the workers.
--
-- Times that pass while it is paused are noted in its history. Safe to repeat.
--
-- KEYS: schedules, state
-- ARGV: id, is_paused (1 or 0), now_ms, wake
-- RETURNS: 1 if there is such a schedule, else 0
-- USES: check_types, publish

check('HLEN', schedules, state)
if redis.call('HEXISTS', schedules, id) == 0 then
  return 0
end
if is_paused == '1' then
  redis.call('HSETNX', state, 'paused', now_ms)
else
  redis.call('HDEL', state, 'paused')
end
publish(wake, 'schedules')
return 1
