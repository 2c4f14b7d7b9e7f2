-- Find active tasks that a worker fetched, even if it never got the reply. Changes nothing.
--
-- KEYS: active
-- ARGV: task_prefix, holder (the worker's id and a colon, with which its tokens begin), limit
-- RETURNS: for each task: id, msg, nbq:lease, attempt, lost, begun, unbegun

local reply = {}
for _, id in ipairs(redis.call('LRANGE', active, 0, tonumber(limit) - 1)) do
  local found = redis.pcall('HMGET', task_prefix .. id, 'msg', 'nbq:lease', 'nbq:attempt',
    'nbq:lost', 'nbq:begun', 'nbq:unbegun')
  if found[1] and found[2] and string.sub(found[2], 1, #holder) == holder then
    reply[#reply + 1] = id
    reply[#reply + 1] = found[1]
    reply[#reply + 1] = found[2]
    reply[#reply + 1] = found[3] or '1'
    reply[#reply + 1] = found[4] or '0'
    reply[#reply + 1] = found[5] or ''
    reply[#reply + 1] = found[6] or '0'
  end
end
return reply
