-- Record members of a task group before they are enqueued, or change fields of its record.
--
-- With members, the record is made if it does not exist; without, only an existing one changes. Safe to repeat: one
-- client adds the members of a group in order, so what was added last is not added again.
--
-- KEYS: record, members, index
-- ARGV: id, check_ms (when to look whether members still exist, unless that is later already), fields (JSON object of
--   text), runs (JSON list of entries, see nbqueue/wire/task_groups/member_runs.py)
-- RETURNS: 1 if there is a record, else 0
-- USES: check_types

check('HLEN', record)
check('LLEN', members)
check('ZCARD', index)
local new = cjson.decode(runs)
if #new == 0 and redis.call('EXISTS', record) == 0 then
  return 0
end
for field, value in pairs(cjson.decode(fields)) do
  redis.call('HSET', record, field, value)
end
if #new > 0 and redis.call('LINDEX', members, -1) ~= new[#new] then
  redis.call('RPUSH', members, unpack(new))
end
redis.call('ZADD', index, 'GT', check_ms, id)
return 1
