-- Add aggregation groups with members to `groups` if they are missing there.
--
-- Looks at `limit` names from `start` on, in the order of their scores; the caller repeats until there are fewer.
-- Names that were not used since `oldest` and have no members are forgotten. Safe to repeat.
--
-- KEYS: group_names, groups
-- ARGV: group_prefix, start, limit, oldest (Unix seconds), wake
-- RETURNS: how many names were kept of those looked at, and how many were forgotten
-- USES: check_types, publish

check('ZCARD', group_names)
check('SCARD', groups)
local last = tonumber(start) + tonumber(limit) - 1
local found = redis.call('ZRANGE', group_names, start, last, 'WITHSCORES')
local kept, forgotten = 0, 0
for i = 1, #found, 2 do
  local name, group_set = found[i], group_prefix .. found[i]
  local size = redis.pcall('ZCARD', group_set)
  if type(size) == 'number' and size > 0 then
    kept = kept + 1
    if redis.call('SADD', groups, name) == 1 then
      publish(wake, 'group ' .. size .. ' ' .. name)
    end
  elseif tonumber(found[i + 1]) < tonumber(oldest) then
    redis.call('ZREM', group_names, name)
    forgotten = forgotten + 1
  else
    kept = kept + 1
  end
end
return { kept, forgotten }
