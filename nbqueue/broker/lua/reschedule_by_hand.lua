-- Change when tasks are due, on behalf of a user.
--
-- Tasks in retry stay there; pending, archived and completed tasks become scheduled, leave the aggregation group
-- that they came from, and lose a large result (see run_by_hand.lua). The set holds whole seconds, rounded up; the
-- exact time is in the task. A unique lock is extended to that time. Notifies the workers. Safe to repeat.
--
-- KEYS: pending, scheduled, retry, archived, completed, groups, events, *tasks
-- ARGV: now_ms, event_cap, group_prefix, wanted (state, empty: any), due_ms, wake,
--   then for each task: id, distance (see remove_from_state.lua)
-- RETURNS: for each task that was refused: its position (from 0), and a word of select_tasks.lua
-- USES: check_types, event, locks, remove_from_state, select_tasks, limit_places, large_values, publish

check_states()
check('ZCARD', completed)
local chosen, refused = select_tasks(2, wanted, {
  pending = true, scheduled = true, retry = true, archived = true, completed = true })
local score = math.ceil(tonumber(due_ms) / 1000)
local again, later = {}, {}
chosen = locate(chosen, refused, 1)
remove_all_from_state(chosen)
for _, each in ipairs(chosen) do
  local task, id, state = unpack(each)
  if state == 'retry' then
    redis.call('ZADD', retry, score, id)
    again[#again + 1] = id
  else
    redis.call('ZADD', scheduled, score, id)
    redis.call('HSET', task, 'state', 'scheduled')
    redis.call('HDEL', task, 'pending_since')
    if state ~= 'scheduled' then
      redis.call('HDEL', task, 'group')
      forget_result(task)
    end
    later[#later + 1] = id
  end
  redis.call('HSET', task, 'nbq:due', due_ms)
  extend_lock(task, id, due_ms, now_ms)
end
if #later > 0 then
  event(events, event_cap, now_ms, 'scheduled', later)
end
if #again > 0 then
  event(events, event_cap, now_ms, 'rescheduled', again)
end
if #chosen > 0 then
  forget_waits(chosen)
  publish(wake, 'due ' .. due_ms)
end
return refused
