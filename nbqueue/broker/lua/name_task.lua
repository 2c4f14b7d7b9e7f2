-- Give a name to a task that was just enqueued.
--
-- The name leads to the newest task of that name. A task that is gone already gets no hash. Safe to repeat.
--
-- KEYS: task, name_key
-- ARGV: id, name, seconds
-- RETURNS: 1 if the task is there, else 0

redis.call('SET', name_key, id, 'EX', seconds)
if redis.call('HEXISTS', task, 'msg') == 0 then
  return 0
end
redis.call('HSET', task, 'nbq:name', name)
return 1
