-- Read the sizes and counters of a queue at one moment. Changes nothing.
--
-- KEYS: pending, active, scheduled, retry, archived, completed, groups, paused, processed,
--   processed_day, failed, failed_day, trim_count
-- ARGV: task_prefix
-- RETURNS: the sizes of the first six; how many groups there are; whether it is paused; the four
--   counters and how many were trimmed; pending_since (ns) of the oldest pending task. As text;
--   a missing value is empty, and a question mark stands for a key of another type

local reply = {}

local function tell(command, key)
  local found = redis.pcall(command, key)
  if type(found) == 'table' then
    found = '?'
  end
  reply[#reply + 1] = found and tostring(found) or ''
end

tell('LLEN', pending)
tell('LLEN', active)
for _, set in ipairs({ scheduled, retry, archived, completed }) do
  tell('ZCARD', set)
end
tell('SCARD', groups)
tell('EXISTS', paused)
for _, counter in ipairs({ processed, processed_day, failed, failed_day, trim_count }) do
  tell('GET', counter)
end
local oldest = redis.pcall('LINDEX', pending, -1)
local since = type(oldest) == 'string' and redis.pcall('HGET', task_prefix .. oldest, 'pending_since')
reply[#reply + 1] = type(since) == 'string' and since or ''
return reply
