-- Schedule new tasks until they are due.
--
-- All or nothing for each task; a task whose id exists is left as it is and reported. The set holds whole seconds,
-- rounded up, so that no program starts a task early; the exact time is in the task. Tasks of an aggregation group
-- name it, and join it when they are due. Notifies the workers. Safe to repeat: with `repeated` set, a task that an
-- earlier try wrote (the same id and message) counts as written now.
--
-- KEYS: scheduled, events, code, code_index, *tasks
-- ARGV: now_ms, event_cap, fingerprint, repeated, limits, wake, group (empty: none), then for each
--   task: id, msg, due_ms
-- RETURNS: the string NOCODE, or the positions (from 0) of tasks whose id existed
-- USES: check_types, event, task_limits, write_message, publish

check('ZCARD', scheduled)
check('XLEN', events)
if fingerprint ~= '' then
  if redis.call('EXISTS', code) == 0 then
    return 'NOCODE'
  end
  redis.call('ZADD', code_index, now_ms, fingerprint)
end
local conflicts, ids, earliest = {}, {}, nil
for i = 0, #KEYS - tasks_at do
  local at = rest_at + 3 * i
  local task, id, msg, due = KEYS[tasks_at + i], ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  if redis.call('EXISTS', task) == 1 then
    if repeated ~= '1' or redis.pcall('HGET', task, 'msg') ~= new_message(i, msg) then
      conflicts[#conflicts + 1] = i
    end
  else
    write_message(i, task, msg)
    redis.call('HSET', task, 'state', 'scheduled', 'nbq:due', ARGV[at + 2])
    if group ~= '' then
      redis.call('HSET', task, 'group', group)
    end
    redis.call('ZADD', scheduled, math.ceil(due / 1000), id)
    note_limit(task, i + 1)
    ids[#ids + 1] = id
    if not earliest or due < earliest then
      earliest = due
    end
  end
end
if #ids > 0 then
  event(events, event_cap, now_ms, 'scheduled', ids)
  publish(wake, 'due ' .. string.format('%.0f', earliest))
end
return conflicts
