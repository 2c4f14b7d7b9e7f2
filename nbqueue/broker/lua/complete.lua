-- Finish tasks that succeeded: keep each with its result for its retention, or delete it.
--
-- Only the holder of a task's lease can finish it; others change nothing and are told. Writes the
-- counters, the events, the attempts, and tells waiting clients. Safe to repeat: a second call
-- finds that the task is no longer held.
--
-- KEYS: active, lease, completed, events, attempts, processed, processed_day, *tasks
-- ARGV: now_ms, event_cap, attempt_cap, day_expire_at, ends_prefix, worker, host, then for each
--   task: id, fence, keep_until (Unix seconds; empty: delete), msg, result, type, attempt,
--   started_ms, finished_ms, waited_ms (may be empty), peak_memory (bytes)
-- RETURNS: the positions (from 0) of tasks that the caller no longer held
-- USES: append, announce, fence, count

local refused, ids, ends = {}, {}, {}
for i = 0, #KEYS - tasks_at do
  local task, at = KEYS[tasks_at + i], rest_at + 11 * i
  local id, keep_until, result = ARGV[at], ARGV[at + 2], ARGV[at + 4]
  if not is_held(lease, task, id, ARGV[at + 1]) then
    refused[#refused + 1] = i
  else
    release(active, lease, id)
    if keep_until == '' then
      redis.call('DEL', task)
      ending(ends, id, 'd', result)
    else
      redis.call('ZADD', completed, keep_until, id)
      redis.call('HSET', task, 'msg', ARGV[at + 3], 'state', 'completed', 'result', result)
      ending(ends, id, 'c', result)
    end
    ids[#ids + 1] = id
    attempt(attempts, attempt_cap, {
      'task_id', id, 'type', ARGV[at + 5], 'attempt', ARGV[at + 6],
      'started_at', ARGV[at + 7], 'finished_at', ARGV[at + 8], 'waited', ARGV[at + 9],
      'worker', worker, 'host', host, 'outcome', 'completed', 'peak_memory', ARGV[at + 10] })
  end
end
if #ids > 0 then
  count(processed, processed_day, #ids, day_expire_at)
  event(events, event_cap, now_ms, 'completed', ids)
  announce(ends_prefix, ends)
end
return refused
