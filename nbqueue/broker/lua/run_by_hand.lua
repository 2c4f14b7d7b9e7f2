-- Make tasks pending on behalf of a user, behind all others, in the order given.
--
-- Takes scheduled, retry, archived, completed and aggregating tasks. Each is pending since now. A task of an
-- aggregation group leaves it for good and runs alone. With `reset` set, earlier failures are forgotten, and the
-- caller has encoded `msg` to match. The pieces of a large result are deleted; a small result would not replace
-- them. A unique lock is extended, or taken again if it is free. Safe to repeat.
--
-- KEYS: pending, scheduled, retry, archived, completed, groups, events, *tasks
-- ARGV: now_ms, event_cap, group_prefix, wanted (state, empty: any), reset, then for each task: id,
--   expected_msg (empty: any), msg (empty: as it is)
-- RETURNS: for each task that was refused: its position (from 0), and a word of select_tasks.lua
-- USES: check_types, event, locks, remove_from_state, select_tasks, large_values

check_states()
check('ZCARD', completed)
local chosen, refused = select_tasks(3, wanted, {
  scheduled = true, retry = true, archived = true, completed = true, aggregating = true },
  'compare')
local ids = {}
remove_all_from_state(chosen)
for i, each in ipairs(chosen) do
  local task, id, _, _, at = unpack(each)
  if ARGV[at + 2] ~= '' then
    redis.call('HSET', task, 'msg', ARGV[at + 2])
  end
  redis.call('HSET', task, 'state', 'pending', 'pending_since', now_ms .. '000000')
  redis.call('HDEL', task, 'group')
  forget_result(task)
  if reset == '1' then
    redis.call('HDEL', task, 'nbq:lost', 'nbq:error', 'nbq:failed')
  end
  extend_lock(task, id, now_ms, now_ms)
  ids[i] = id
end
if #ids > 0 then
  redis.call('LPUSH', pending, unpack(ids))
  event(events, event_cap, now_ms, 'enqueued', ids)
end
return refused
