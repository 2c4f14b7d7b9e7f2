-- Note the names of aggregation groups, so that a group missing from `groups` can be found again.
--
-- Programs in Go do not list a group when they forward a task to it, or put back members of a set. Safe to repeat.
--
-- KEYS: group_names
-- ARGV: at (Unix seconds: the group is used now, or will be then), names (a JSON list)
-- RETURNS: how many names are new
-- USES: check_types

check('ZCARD', group_names)
local new = 0
for _, name in ipairs(cjson.decode(names)) do
  new = new + redis.call('ZADD', group_names, 'GT', at, name)
end
return new
