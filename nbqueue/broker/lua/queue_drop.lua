-- Delete keys of a queue that is being removed, whatever they hold, unless a task lies there.
--
-- All or nothing: with a task in the queue, its counters, locks and code may be needed. What lies
-- nowhere can be run by nobody, so hashes of tasks that are left over go too; who waits for one that
-- had not ended is told. Safe to repeat.
--
-- KEYS: pending, active, scheduled, retry, archived, completed, groups, *tasks (any keys)
-- ARGV: task_prefix, ends_prefix, then for each task: kind (place: it must not be there; task: it
--   may be a task's hash; else anything)
-- RETURNS: 1, or 0 if a task lies there
-- USES: announce

if redis.call('EXISTS', pending, active, scheduled, retry, archived, completed, groups) > 0 then
  return 0
end
for i = 0, #KEYS - tasks_at do
  if ARGV[rest_at + i] == 'place' and redis.call('EXISTS', KEYS[tasks_at + i]) == 1 then
    return 0
  end
end
local ends = {}
for i = 0, #KEYS - tasks_at do
  local key = KEYS[tasks_at + i]
  if ARGV[rest_at + i] == 'task' then
    local state = redis.pcall('HGET', key, 'state')
    if type(state) == 'string' and state ~= 'completed' and state ~= 'archived' then
      ending(ends, string.sub(key, #task_prefix + 1), 'x', '')
    end
  end
  redis.call('UNLINK', key)
end
announce(ends_prefix, ends)
return 1
