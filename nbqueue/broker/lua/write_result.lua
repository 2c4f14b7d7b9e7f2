-- Write the result of a task that still runs, as far as it has come.
--
-- Only the holder of its lease can do this, so that nothing is written to a task that has ended, or
-- that is gone: a hash of a result alone would keep its id from being used again. Safe to repeat.
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
