-- Replace the records of a worker and of the tasks that it runs.
--
-- These are Asynq's records, which its tools show; both expire by themselves. Safe to repeat.
--
-- KEYS: info, tasks
-- ARGV: info_body, ttl_ms, entries (for each task: the length of a name in 4 bytes, the name, the
--   length of a value in 4 bytes, the value)
-- RETURNS: how many tasks were written

redis.call('SET', info, info_body, 'PX', ttl_ms)
redis.call('DEL', tasks)
local at, written = 1, 0
while at <= #entries do
  local name, value
  name, value, at = struct.unpack('>I4c0I4c0', entries, at)
  redis.call('HSET', tasks, name, value)
  written = written + 1
end
if written > 0 then
  redis.call('PEXPIRE', tasks, ttl_ms)
end
return written
