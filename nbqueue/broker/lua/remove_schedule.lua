-- Forget a schedule with its history, and notify the workers. Its tasks stay.
--
-- With a revision, only that one is removed. Safe to repeat.
--
-- KEYS: schedules, schedule_due, state, history
-- ARGV: id, revision (empty: whichever), wake
-- RETURNS: 1 if there was one, else 0
-- USES: check_types, publish

check('HLEN', schedules, state)
check('ZCARD', schedule_due)
if revision ~= '' and redis.call('HGET', state, 'revision') ~= revision then
  return 0
end
local was_there = redis.call('HDEL', schedules, id)
redis.call('ZREM', schedule_due, id)
redis.call('DEL', state, history)
publish(wake, 'schedules')
return was_there
