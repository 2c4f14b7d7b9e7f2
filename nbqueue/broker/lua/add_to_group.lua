-- Add new tasks to an aggregation group, where they wait to become one task.
--
-- All or nothing for each task; a task whose id exists is left as it is and reported. Scores are whole seconds,
-- rounded down; the exact time is in the task. Publishes how large the group is. Safe to repeat: with `repeated`
-- set, a task that an earlier try wrote (the same id and message) counts as written now.
--
-- KEYS: group_set, groups, events, *tasks
-- ARGV: group, now_ms, event_cap, repeated, wake, then for each task: id, msg
-- RETURNS: the positions (from 0) of tasks whose id existed
-- USES: check_types, event, publish

check('ZCARD', group_set)
check('SCARD', groups)
check('XLEN', events)
local now_s = math.floor(tonumber(now_ms) / 1000)
local conflicts, ids = {}, {}
for i = 0, #KEYS - tasks_at do
  local task, id, msg = KEYS[tasks_at + i], ARGV[rest_at + 2 * i], ARGV[rest_at + 2 * i + 1]
  if redis.call('EXISTS', task) == 1 then
    if repeated ~= '1' or redis.pcall('HGET', task, 'msg') ~= msg then
      conflicts[#conflicts + 1] = i
    end
  else
    redis.call('HSET', task, 'msg', msg, 'state', 'aggregating', 'group', group,
      'nbq:added', now_ms)
    redis.call('ZADD', group_set, now_s, id)
    ids[#ids + 1] = id
  end
end
if #ids > 0 then
  redis.call('SADD', groups, group)
  event(events, event_cap, now_ms, 'aggregating', ids)
  publish(wake, 'group ' .. redis.call('ZCARD', group_set) .. ' ' .. group)
end
return conflicts
