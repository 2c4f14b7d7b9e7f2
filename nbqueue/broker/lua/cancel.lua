-- Cancel a task that is not running: it is archived with the reason, and nobody runs it.
--
-- A running task is left to its worker, which the caller tells, and one that is being aggregated to
-- whoever does that. Its unique lock is given up. Safe to repeat.
--
-- KEYS: task, pending, scheduled, retry, archived, completed, groups, events
-- ARGV: id, msg (with the error), error, now_ms, event_cap, ends_prefix, expected_msg, group_prefix
-- RETURNS: CANCELLED, CHANGED (the message is not as expected: read it again), MISSING, or the
--   state of a task that cannot be cancelled here: active, completed, archived, aggregating
-- USES: types, append, announce, locks, leave

local found = redis.call('HMGET', task, 'state', 'msg', 'group')
local state, group = found[1], found[3]
if not state or not found[2] then
  return 'MISSING'
end
if state ~= 'pending' and state ~= 'scheduled' and state ~= 'retry' and state ~= 'aggregating' then
  return state
end
if state == 'aggregating' and not lies_in(state, group, id) then
  return state
end
if found[2] ~= expected_msg then
  return 'CHANGED'
end
check('LLEN', pending)
check('ZCARD', scheduled, retry, archived)
check('SCARD', groups)
check('XLEN', events)
if state == 'pending' then
  redis.call('LREM', pending, 0, id)
elseif state == 'aggregating' then
  leave(state, group, id)
elseif state == 'scheduled' then
  redis.call('ZREM', scheduled, id)
else
  redis.call('ZREM', retry, id)
end
drop_lock(task, id)
redis.call('ZADD', archived, math.floor(tonumber(now_ms) / 1000), id)
redis.call('HSET', task, 'msg', msg, 'state', 'archived', 'nbq:error', error)
event(events, event_cap, now_ms, 'archived', { id })
local ends = {}
ending(ends, id, 'a', error)
announce(ends_prefix, ends)
return 'CANCELLED'
