-- Record an attempt that did not succeed.
--
-- `record_failed_attempt(outcome)`: appends it to the attempts. `keep_error()`: keeps its error in the task, and
-- deletes that of an earlier attempt.
--
-- Expects the locals that the loader makes of the argument names of retry.lua, archive.lua and requeue.lua.
-- USES: record_attempt

local function record_failed_attempt(outcome)
  record_attempt(attempts, attempt_cap, {
    'task_id', id, 'type', type_name, 'attempt', attempt_number,
    'started_at', started_ms, 'finished_at', now_ms, 'waited', waited_ms,
    'worker', worker, 'host', host, 'outcome', outcome, 'reason', reason,
    'peak_memory', peak_memory, 'error', error_text })
  -- The number counts attempts of programs in Go as well, which the next fetch must not forget.
  local fetched = tonumber(redis.call('HGET', task, 'nbq:attempt') or '') or 0
  if fetched < tonumber(attempt_number) then
    redis.call('HSET', task, 'nbq:attempt', attempt_number)
  end
end

local function keep_error()
  if error_body ~= '' then
    redis.call('HSET', task, 'nbq:error', error_body, 'nbq:failed', error_mark)
  else
    redis.call('HDEL', task, 'nbq:error', 'nbq:failed')
  end
end
