-- Move the members of an aggregation group that is due to a new aggregation set, oldest first.
--
-- The caller chose the id of the set, and holds it until the deadline. After that any worker may put the members
-- back. Scores stay as they are. Members that are not aggregating are dropped, and an empty group is removed from
-- the list of groups. Safe to repeat: an existing set is left as it is.
--
-- KEYS: group_set, set, groups, aggregation_sets
-- ARGV: group, task_prefix, now_ms, max_size, max_delay_ms, grace_ms, deadline (Unix seconds),
--   limit, most_bytes (of all messages of the set, but for its first)
-- RETURNS: how many members the set has, and when to look again (Unix ms as text, 0: now, empty:
--   nothing is left)
-- USES: check_types, group_due

check('ZCARD', group_set, set, aggregation_sets)
check('SCARD', groups)
if redis.call('ZSCORE', aggregation_sets, group_set) then
  return { 0, '' } -- The name of this group makes its key that of a set.
end
if redis.call('EXISTS', set) == 1 then
  return { redis.call('ZCARD', set), '0' }
end
local size, at = group_due_at(group_set)
if size > 0 and at > tonumber(now_ms) then
  return { 0, string.format('%.0f', at) }
end
local left, moved, bytes = math.min(size, tonumber(limit)), 0, 0
if tonumber(max_size) > 0 then
  left = math.min(left, tonumber(max_size))
end
while left > 0 do
  local count = math.min(left, 500)
  local found = redis.call('ZRANGE', group_set, 0, count - 1, 'WITHSCORES')
  local members = {}
  for i = 1, #found, 2 do
    local task = redis.pcall('HMGET', task_prefix .. found[i], 'msg', 'state')
    bytes = bytes + (task[1] and #task[1] or 0)
    if bytes > tonumber(most_bytes) and (i > 1 or moved > 0) then
      count, left = (i - 1) / 2, 0
      break
    end
    if task[1] and task[2] == 'aggregating' then
      members[#members + 1] = found[i + 1]
      members[#members + 1] = found[i]
    end
  end
  if count > 0 then
    redis.call('ZREMRANGEBYRANK', group_set, 0, count - 1)
  end
  if #members > 0 then
    redis.call('ZADD', set, unpack(members))
  end
  moved = moved + #members / 2
  left = left - count
end
if moved > 0 then
  redis.call('ZADD', aggregation_sets, deadline, set)
end
if redis.call('EXISTS', group_set) == 0 then
  redis.call('SREM', groups, group)
  return { moved, '' }
end
return { moved, '0' }
