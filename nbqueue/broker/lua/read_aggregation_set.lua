-- Read members of an aggregation set, oldest first. Changes nothing.
--
-- KEYS: set
-- ARGV: task_prefix, start (a position, from 0), limit
-- RETURNS: for each member: id, msg (empty: there is no such task)

local reply = {}
local last = tonumber(start) + tonumber(limit) - 1
for _, id in ipairs(redis.call('ZRANGE', set, start, last)) do
  local msg = redis.pcall('HGET', task_prefix .. id, 'msg')
  reply[#reply + 1] = id
  reply[#reply + 1] = type(msg) == 'string' and msg or ''
end
return reply
