-- Delete the keys of a queue that is being removed, unless the queue holds a task.
--
-- All or nothing: a task may need the counters, locks and code. Hashes of tasks that are in no state are deleted
-- as well, since nothing can run them. Safe to repeat.
--
-- KEYS: pending, active, scheduled, retry, archived, completed, groups, *tasks (any keys)
-- ARGV: then for each task: kind (place: it must not be there; else it is deleted)
-- RETURNS: 1, or 0 if the queue holds a task

if redis.call('EXISTS', pending, active, scheduled, retry, archived, completed, groups) > 0 then
  return 0
end
for i = 0, #KEYS - tasks_at do
  if ARGV[rest_at + i] == 'place' and redis.call('EXISTS', KEYS[tasks_at + i]) == 1 then
    return 0
  end
end
for i = 0, #KEYS - tasks_at do
  redis.call('UNLINK', KEYS[tasks_at + i])
end
return 1
