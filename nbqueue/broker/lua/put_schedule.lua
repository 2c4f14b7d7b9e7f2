-- Store a schedule, in place of an earlier one with its id, and notify the workers.
--
-- The code of a call is stored with it. The stored schedule must have the revision that the caller saw (empty:
-- none), so of two concurrent changes one fails. History, last task and pause stay; with `keeps_due` set, the due
-- time and the number of runs stay too. Safe to repeat: a revision that is stored already counts as written now.
--
-- KEYS: schedules, schedule_due, state, code, code_index
-- ARGV: id, entry, revision, seen_revision, due_ms (empty: never), keeps_due, fingerprint (empty:
--   no code), blob, now_ms, wake
-- RETURNS: 1 if it was written, 0 if another revision is stored
-- USES: check_types, publish

check('HLEN', schedules, state)
check('ZCARD', schedule_due, code_index)
local found = redis.call('HGET', state, 'revision') or ''
if found == revision then
  return 1
end
if redis.call('HEXISTS', schedules, id) == 0 then
  found = ''
end
if found ~= seen_revision then
  return 0
end
if fingerprint ~= '' then
  redis.call('ZADD', code_index, now_ms, fingerprint)
  redis.call('SET', code, blob)
end
redis.call('HSET', schedules, id, entry)
redis.call('HSET', state, 'revision', revision)
if keeps_due ~= '1' then
  redis.call('HDEL', state, 'runs')
  if due_ms == '' then
    redis.call('ZREM', schedule_due, id)
  else
    redis.call('ZADD', schedule_due, due_ms, id)
  end
end
publish(wake, 'schedules')
return 1
