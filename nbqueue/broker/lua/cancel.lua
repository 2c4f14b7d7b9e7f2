-- Cancel a task that is not running: it is archived with the reason, and nobody runs it.
--
-- A running task is left to its worker, which the caller tells. Its unique lock is given up. Safe to repeat.
--
-- KEYS: task, pending, scheduled, retry, archived, events
-- ARGV: id, msg (with the error), error, now_ms, event_cap, ends_prefix, expected_msg
-- RETURNS: CANCELLED, CHANGED (the message is not as expected: read it again), MISSING, or the
--   state of a task that cannot be cancelled here: active, completed, archived, aggregating
-- USES: types, append, announce, locks, room

local found = redis.call('HMGET', task, 'state', 'msg', 'nbq:limit')
local state = found[1]
if not state or not found[2] then
  return 'MISSING'
end
if state ~= 'pending' and state ~= 'scheduled' and state ~= 'retry' then
  return state
end
if found[2] ~= expected_msg then
  return 'CHANGED'
end
check('LLEN', pending)
check('ZCARD', scheduled, retry, archived)
check('XLEN', events)
if state == 'pending' then
  redis.call('LREM', pending, 0, id)
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
if found[3] then
  -- It may have had its turn, and not begun.
  left(found[3], id)
end
return 'CANCELLED'
