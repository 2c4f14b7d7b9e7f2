-- Keep a schedule, in place of an earlier one of the same id, and tell the workers.
--
-- The code of a call goes along. What lies there must still have the revision that the caller saw
-- (empty: nothing), so that of two who change it one begins anew. History, the last task and a
-- pause stay; with `keeps_due` set, so do the time at which it is due and the count of runs. Safe
-- to repeat: a revision that lies there already counts as written now.
--
-- KEYS: schedules, schedule_due, state, code, code_index
-- ARGV: id, entry, revision, seen_revision, due_ms (empty: never), keeps_due, fingerprint (empty:
--   no code), blob, now_ms, wake
-- RETURNS: 1 if it was written, 0 if another revision lies there
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
