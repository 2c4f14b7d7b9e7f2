-- Move pending tasks out of the list, for a caller that removes them one by one right after.
--
-- They are scheduled until `due_ms` and become pending then if the caller fails. Their messages, which may be
-- large, are not read, and their unique locks stay. Safe to repeat.
--
-- KEYS: pending, scheduled, retry, archived, completed, groups, events, *tasks
-- ARGV: now_ms, event_cap, group_prefix, due_ms, then for each task: id, distance (see remove_from_state.lua)
-- RETURNS: for each task that was refused: its position (from 0), and a word of select_tasks.lua
-- USES: check_types, event, remove_from_state, select_tasks

check('LLEN', pending)
check('ZCARD', scheduled)
check('XLEN', events)
local chosen, refused = select_tasks(2, '', { pending = true })
chosen = locate(chosen, refused, 1)
remove_all_from_state(chosen)
local ids, members = {}, {}
for i, each in ipairs(chosen) do
  local task, id = each[1], each[2]
  redis.call('HSET', task, 'state', 'scheduled', 'nbq:due', due_ms)
  redis.call('HDEL', task, 'pending_since')
  ids[i] = id
  members[2 * i - 1], members[2 * i] = math.ceil(tonumber(due_ms) / 1000), id
end
if #ids > 0 then
  redis.call('ZADD', scheduled, unpack(members))
  event(events, event_cap, now_ms, 'scheduled', ids)
end
return refused
