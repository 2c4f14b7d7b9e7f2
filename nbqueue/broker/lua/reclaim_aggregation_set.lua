-- Put members of an aggregation set back into their group, with their scores, at most `limit`.
--
-- The caller repeats until 0. From the first call on the set has no holder: its deadline is 0, and it is gone with
-- its last member. Adds the group to the list of groups. Members that are not aggregating are dropped. Safe to
-- repeat.
--
-- KEYS: set, group_set, groups, aggregation_sets
-- ARGV: group, before (Unix seconds: only if its deadline is no later; empty: at once),
--   task_prefix, limit, wake
-- RETURNS: how many members are left in the set
-- USES: check_types, publish

check('ZCARD', set, group_set, aggregation_sets)
check('SCARD', groups)
local score = redis.call('ZSCORE', aggregation_sets, set)
if not score or (before ~= '' and tonumber(score) > tonumber(before)) then
  return 0
end
local found = redis.call('ZRANGE', set, 0, tonumber(limit) - 1, 'WITHSCORES')
local is_any = false
for i = 1, #found, 2 do
  redis.call('ZREM', set, found[i])
  local task = redis.pcall('HMGET', task_prefix .. found[i], 'msg', 'state')
  if task[1] and task[2] == 'aggregating' then
    is_any = true
    redis.call('ZADD', group_set, found[i + 1], found[i])
  end
end
if is_any then
  redis.call('SADD', groups, group)
end
local left = redis.call('ZCARD', set)
if left > 0 then
  redis.call('ZADD', aggregation_sets, 'XX', 0, set)
else
  redis.call('ZREM', aggregation_sets, set)
end
if is_any and before ~= '' then
  publish(wake, 'group ' .. redis.call('ZCARD', group_set) .. ' ' .. group)
end
return left
