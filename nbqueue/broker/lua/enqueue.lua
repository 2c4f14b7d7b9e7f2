-- Put new tasks at the end of the line: pending, oldest first.
--
-- All or nothing for each task; a task whose id exists is left as it is and reported. Calls name
-- the code they need, and none is written while the store lacks it. Safe to repeat: with `repeated`
-- set, a task that an earlier try wrote (the same id and message) counts as written now. `limits`
-- names the limit of each task, one a line; or of all, or of none. A msg that comes empty may be staged.
--
-- KEYS: pending, events, code, code_index, *tasks
-- ARGV: now_ms, event_cap, fingerprint (empty: no code), repeated, limits, then for each task: id, msg
-- RETURNS: the string NOCODE, or the positions (from 0) of tasks whose id existed
-- USES: types, append, named, staged

check('LLEN', pending)
check('XLEN', events)
if fingerprint ~= '' then
  if redis.call('EXISTS', code) == 0 then
    return 'NOCODE'
  end
  redis.call('ZADD', code_index, now_ms, fingerprint)
end
local since = now_ms .. '000000'
local conflicts, ids = {}, {}
for i = 0, #KEYS - tasks_at do
  local task, id, msg = KEYS[tasks_at + i], ARGV[rest_at + 2 * i], ARGV[rest_at + 2 * i + 1]
  if redis.call('EXISTS', task) == 1 then
    if repeated == '1' and msg == '' and is_staged(i) then
      msg = redis.call('HGET', staged_prefix .. i, 'msg')
    end
    if repeated ~= '1' or redis.pcall('HGET', task, 'msg') ~= msg then
      conflicts[#conflicts + 1] = i
    end
  else
    if msg == '' and is_staged(i) then
      unstage(i, task)
      redis.call('HSET', task, 'state', 'pending', 'pending_since', since)
    else
      redis.call('HSET', task, 'msg', msg, 'state', 'pending', 'pending_since', since)
    end
    name_limit(task, i + 1)
    ids[#ids + 1] = id
  end
end
if #ids > 0 then
  redis.call('LPUSH', pending, unpack(ids))
  event(events, event_cap, now_ms, 'enqueued', ids)
end
return conflicts
