-- Replace the message of a task that has not begun by one with another payload.
--
-- Only while the task is pending or scheduled, and its message is as the caller read it. Its unique lock stays that
-- of the first payload. Safe to repeat.
--
-- KEYS: task
-- ARGV: expected_msg, msg
-- RETURNS: WRITTEN, CHANGED (the message is not as expected: read it again), MISSING, or the state
--   that is in the way

local found = redis.pcall('HMGET', task, 'state', 'msg')
local state = found[1]
if not state or not found[2] then
  return 'MISSING'
end
if state ~= 'pending' and state ~= 'scheduled' then
  return state
end
if found[2] == msg then
  return 'WRITTEN'
end
if found[2] ~= expected_msg then
  return 'CHANGED'
end
redis.call('HSET', task, 'msg', msg)
return 'WRITTEN'
