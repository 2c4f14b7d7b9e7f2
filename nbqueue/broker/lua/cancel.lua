-- Cancel a task with a large message that is not running; cancel_tasks.lua is for all others.
--
-- The caller has written the failure into the message. Safe to repeat.
--
-- KEYS: task, pending, scheduled, retry, archived, completed, groups, events, trim_count, settings
-- ARGV: id, msg (with the error), error, error_mark, now_ms, event_cap, ends_prefix, expected_msg, task_prefix,
--   group_prefix, oldest (Unix seconds), most
-- RETURNS: CANCELLED, CHANGED (the message is not as expected: read it again), MISSING, or the
--   state of a task that cannot be cancelled here: active, completed, archived, or aggregating for
--   one that is just being aggregated
-- USES: check_types, event, announce_ends, counters, locks, remove_from_state, trim_archive, limit_places

local found = redis.call('HMGET', task, 'state', 'msg', 'group', 'nbq:limit')
local state, group = found[1], found[3]
if not state or not found[2] then
  return 'MISSING'
end
if state ~= 'pending' and state ~= 'scheduled' and state ~= 'retry' and state ~= 'aggregating' then
  return state
end
if found[2] ~= expected_msg then
  return 'CHANGED'
end
check_states()
check_counters(trim_count)
if state == 'aggregating' and not is_in_state(state, group, id) then
  return state
end
remove_from_state(state, group, id)
release_lock(task, id)
local now_s = math.floor(tonumber(now_ms) / 1000)
redis.call('ZADD', archived, now_s, id)
redis.call('HSET', task, 'msg', msg, 'state', 'archived', 'nbq:error', error,
  'nbq:failed', error_mark)
event(events, event_cap, now_ms, 'archived', { id })
local ends = {}
add_end(ends, id, 'a', error)
announce_ends(ends_prefix, ends)
note_cancelled({ now_s, id })
trim_archive(100, 0)
if found[4] then
  -- It may have had its turn, and not begun.
  free_and_release(found[4], id)
end
return 'CANCELLED'
