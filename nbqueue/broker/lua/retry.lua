-- Put a failed task into the retry set until it is due again.
--
-- Only for the holder of its lease. The set holds whole seconds, rounded up; the exact time is in the task. Its
-- unique lock is extended to that time. A task that left its aggregation group to run alone leaves it for good;
-- programs in Go would put it back when it is due. Without `counts`, the failure uses up no retry and is not
-- counted (the caller has encoded `msg` to match). Safe to repeat.
--
-- KEYS: task, active, lease, retry, events, attempts, processed, processed_day, failed, failed_day
-- ARGV: id, fence, msg, due_ms, counts, error_body, error_mark, now_ms, event_cap, attempt_cap, day_expire_at,
--   wake, worker, host, type_name, attempt_number, started_ms, waited_ms, reason, peak_memory,
--   error_text
-- RETURNS: 1, or 0 if the caller no longer held the task
-- USES: check_types, event, fence, counters, record_failure, locks, capacity, limit_places, publish

local is_ours, _, limit = is_held(lease, task, id, fence, nil, true)
if not is_ours then
  return 0
end
check('LLEN', active)
check('ZCARD', retry)
check('XLEN', events, attempts)
check_counters(processed, processed_day, failed, failed_day)
release(active, lease, id)
redis.call('ZADD', retry, math.ceil(tonumber(due_ms) / 1000), id)
redis.call('HSET', task, 'msg', msg, 'state', 'retry', 'nbq:due', due_ms)
redis.call('HDEL', task, 'group')
extend_lock(task, id, due_ms, now_ms)
keep_error()
if counts == '1' then
  count(processed, processed_day, 1, day_expire_at)
  count(failed, failed_day, 1, day_expire_at)
end
record_failed_attempt('retry')
event(events, event_cap, now_ms, 'retried', { id })
publish(wake, 'due ' .. due_ms)
free_and_release(limit, id)
announce_capacity()
return 1
