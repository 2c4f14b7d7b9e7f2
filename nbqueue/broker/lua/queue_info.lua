-- Look at a queue as a whole, at one moment. Changes nothing.
--
-- KEYS: pending, active, scheduled, retry, archived, completed, groups, paused, processed,
--   processed_day, failed, failed_day, trim_count
-- ARGV: task_prefix
-- RETURNS: the sizes of the first six; how many groups there are; whether it is paused; the four
--   counters and how many were trimmed; pending_since (ns) of the oldest pending task. As text;
--   what there is not, or makes no sense, is empty

local oldest = redis.call('LINDEX', pending, -1)
local since = oldest and redis.pcall('HGET', task_prefix .. oldest, 'pending_since')
local reply = { redis.call('LLEN', pending), redis.call('LLEN', active) }
for _, set in ipairs({ scheduled, retry, archived, completed }) do
  reply[#reply + 1] = redis.call('ZCARD', set)
end
reply[#reply + 1] = redis.call('SCARD', groups)
reply[#reply + 1] = redis.call('EXISTS', paused)
for _, counter in ipairs({ processed, processed_day, failed, failed_day, trim_count }) do
  local value = redis.pcall('GET', counter)
  reply[#reply + 1] = type(value) == 'string' and value or ''
end
reply[#reply + 1] = type(since) == 'string' and since or ''
return reply
