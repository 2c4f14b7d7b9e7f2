-- Put a task back to the front of the pending list: it runs next, and uses up no retry.
--
-- Only for the holder of its lease, or the finder of its expired lease. `how` is 'unstarted' if the task was
-- fetched and never began (as if it had not been fetched), 'lost' if its process died (counted in the task),
-- 'unbegun' if a whole worker died and the task may not have begun (counted apart), or 'interrupted' by a shutdown.
-- It counts as pending since it was enqueued. An unstarted task keeps its place under its limit; any other has to
-- be admitted again. Safe to repeat.
--
-- KEYS: task, active, lease, pending, events, attempts
-- ARGV: id, fence, how, now_ms, event_cap, attempt_cap, worker, host, type_name, attempt_number,
--   started_ms, waited_ms, reason, peak_memory, error_text
-- RETURNS: 1, or 0 if the caller no longer held the task
-- USES: check_types, numbers, event, fence, record_failure, capacity, limit_places

local is_ours, _, limit = is_held(lease, task, id, fence, nil, true)
if not is_ours then
  return 0
end
check('LLEN', active, pending)
check('XLEN', events, attempts)
local since = nil
if string.byte(fence) == 84 or string.find(fence, '.', 1, true) then -- 'T'
  -- Otherwise a program in Go held the task, and the stored token is of an earlier attempt.
  since = string.match(redis.call('HGET', task, 'nbq:lease') or '', '|(%d+)$')
end
release(active, lease, id)
redis.call('RPUSH', pending, id)
redis.call('HSET', task, 'state', 'pending')
if since then
  redis.call('HSET', task, 'pending_since', since)
end
if how == 'unstarted' then
  add(task, 'nbq:attempt', -1)
  if limit then
    redis.call('HSET', task, 'nbq:parked', TURN)
  end
else
  if how == 'lost' or how == 'unbegun' then
    add(task, 'nbq:' .. how, 1)
  end
  record_failed_attempt(how == 'unbegun' and 'lost' or how)
end
event(events, event_cap, now_ms, 'requeued', { id })
if how ~= 'unstarted' then
  free_and_release(limit, id)
end
announce_capacity()
return 1
