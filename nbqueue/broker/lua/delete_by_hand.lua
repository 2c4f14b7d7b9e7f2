-- Delete tasks on behalf of a user, with their hashes.
--
-- Takes tasks of any state but active. Releases their unique locks, unless `keep_lock` is set, frees their places
-- under limits, and announces the ends of those that had not ended. Safe to repeat.
--
-- KEYS: pending, scheduled, retry, archived, completed, groups, events, *tasks
-- ARGV: now_ms, event_cap, group_prefix, wanted (state, empty: any), keep_lock, ends_prefix,
--   then for each task: id, distance (see remove_from_state.lua)
-- RETURNS: for each task that was refused: its position (from 0), and a word of select_tasks.lua
-- USES: check_types, event, announce_ends, locks, remove_from_state, select_tasks, limit_places

check_states()
check('ZCARD', completed)
local chosen, refused = select_tasks(2, wanted, {
  pending = true, scheduled = true, retry = true, archived = true, completed = true,
  aggregating = true })
local ids, ends = {}, {}
chosen = locate(chosen, refused, 1)
remove_all_from_state(chosen)
for i, each in ipairs(chosen) do
  local task, id, state = unpack(each)
  if keep_lock ~= '1' then
    release_lock(task, id)
  end
  redis.call('DEL', task)
  if state ~= 'completed' and state ~= 'archived' then
    add_end(ends, id, 'x', '')
  end
  ids[i] = id
end
if #ids > 0 then
  event(events, event_cap, now_ms, 'deleted', ids)
  announce_ends(ends_prefix, ends)
  forget_waits(chosen)
end
return refused
