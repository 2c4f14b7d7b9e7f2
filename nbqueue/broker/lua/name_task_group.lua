-- Make a name lead to a task group, unless it leads to a newer one.
--
-- Safe to repeat.
--
-- KEYS: name_key
-- ARGV: id, started_ms
-- RETURNS: 1 if the name leads to the group, else 0

local found = redis.call('GET', name_key)
local since = found and tonumber(string.match(found, '^(%d+) '))
if since and since > tonumber(started_ms) then
  return 0
end
redis.call('SET', name_key, started_ms .. ' ' .. id)
return 1
