-- Find out when aggregation groups are due. Only removes empty groups from the list of groups.
--
-- A group whose key holds something else is reported as empty, so that other groups still become due.
--
-- KEYS: groups, *tasks (the sets of the groups)
-- ARGV: task_prefix, max_size, max_delay_ms, grace_ms, then for each task: group
-- RETURNS: for each group: when it is ripe (Unix ms as text, 0: now, empty: it has no members, or
--   its key is something else)
-- USES: check_types, group_due

check('SCARD', groups)
local reply = {}
for i = 0, #KEYS - tasks_at do
  local size, at = 0, nil
  -- One key of another kind must not keep all other groups waiting.
  local kind = redis.call('TYPE', KEYS[tasks_at + i]).ok
  if kind == 'zset' then
    size, at = group_due_at(KEYS[tasks_at + i])
  elseif kind == 'none' then
    redis.call('SREM', groups, ARGV[rest_at + i])
  end
  reply[#reply + 1] = size == 0 and '' or string.format('%.0f', at)
end
return reply
