-- Write the result so far of a task that is still running.
--
-- Only for the holder of its lease, so that nothing is written to a task that ended or is gone: a hash with nothing
-- but a result would keep its id from being used again. Safe to repeat.
--
-- KEYS: task, lease
-- ARGV: id, fence, result
-- RETURNS: 1, or 0 if the caller no longer held the task
-- USES: fence

if not is_held(lease, task, id, fence, nil, true) then
  return 0
end
redis.call('HSET', task, 'result', result)
return 1
