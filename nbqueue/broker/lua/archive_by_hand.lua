-- Archive tasks as they are, on behalf of a user. They do not run until a user runs them.
--
-- Takes pending, scheduled, retry, completed and aggregating tasks. Releases their unique locks, unless
-- `keep_lock` is set; messages and counters stay as they are. Trims the archive, at most 500 tasks by age and 500
-- by number, oldest first; new tasks only where they are more than the archive keeps. Safe to repeat.
--
-- KEYS: pending, scheduled, retry, archived, completed, groups, events, trim_count, settings, *tasks
-- ARGV: now_ms, event_cap, group_prefix, wanted (state, empty: any), keep_lock, task_prefix,
--   ends_prefix, oldest (Unix seconds), most, then for each task: id, distance (see remove_from_state.lua)
-- RETURNS: how many were trimmed; then for each task that was refused: its position (from 0), and a
--   word of select_tasks.lua
-- USES: check_types, event, announce_ends, counters, locks, remove_from_state, select_tasks, limit_places, trim_archive

check_states()
check('ZCARD', completed)
check_counters(trim_count)
local chosen, refused = select_tasks(2, wanted, {
  pending = true, scheduled = true, retry = true, completed = true, aggregating = true })
local trimmed = 0
chosen = locate(chosen, refused, 1)
if #chosen > 0 then
  local ids, ends = {}, {}
  trimmed = trim_archive(500, math.min(#chosen, (archive_limits())))
  remove_all_from_state(chosen)
  for i, each in ipairs(chosen) do
    local task, id, state = unpack(each)
    if keep_lock ~= '1' then
      release_lock(task, id)
    end
    redis.call('ZADD', archived, math.floor(tonumber(now_ms) / 1000), id)
    redis.call('HSET', task, 'state', 'archived')
    if state ~= 'completed' then
      -- The waiting client checks whether the stored error is that of the last failure.
      add_end(ends, id, 'a', '')
    end
    ids[i] = id
  end
  event(events, event_cap, now_ms, 'archived', ids)
  announce_ends(ends_prefix, ends)
  trimmed = trimmed + trim_archive(500, 0)
  forget_waits(chosen)
end
table.insert(refused, 1, trimmed)
return refused
