-- Archive a task that failed for good, with its error.
--
-- Only for the holder of its lease. Releases its unique lock, unless `keep_lock` is set. First trims the archive
-- by age and by number, at most 200 tasks at a time, oldest first; the new task is never trimmed, unless it was
-- cancelled. Safe to repeat.
--
-- KEYS: task, active, lease, archived, events, attempts, processed, processed_day, failed,
--   failed_day, trim_count, settings
-- ARGV: id, fence, msg, error_body, error_mark, task_prefix, oldest (Unix seconds), most, keep_lock,
--   ends_prefix, now_ms, event_cap, attempt_cap, day_expire_at, worker, host, type_name,
--   attempt_number, started_ms, waited_ms, reason, peak_memory, error_text
-- RETURNS: 0 if the caller no longer held the task, else 1 and how many were trimmed that had failed,
--   and not been cancelled
-- USES: check_types, event, announce_ends, fence, counters, record_failure, locks, capacity, limit_places, trim_archive

local is_ours, _, limit = is_held(lease, task, id, fence, nil, true)
if not is_ours then
  return 0
end
check('LLEN', active)
check('ZCARD', archived)
check('XLEN', events, attempts)
check_counters(processed, processed_day, failed, failed_day, trim_count)
local now_s = math.floor(tonumber(now_ms) / 1000)
local failed_count
if reason ~= 'cancelled' then
  _, failed_count = trim_archive(100, 1)
end
if keep_lock ~= '1' then
  release_lock(task, id)
end
release(active, lease, id)
redis.call('ZADD', archived, now_s, id)
redis.call('HSET', task, 'msg', msg, 'state', 'archived')
keep_error()
count(processed, processed_day, 1, day_expire_at)
count(failed, failed_day, 1, day_expire_at)
record_failed_attempt('archived')
event(events, event_cap, now_ms, 'archived', { id })
local ends = {}
add_end(ends, id, 'a', error_body)
announce_ends(ends_prefix, ends)
if reason == 'cancelled' then
  note_cancelled({ now_s, id })
  _, failed_count = trim_archive(100, 0)
end
free_and_release(limit, id)
announce_capacity()
return { 1, failed_count }
