-- Write or read the message of a new task, which may be staged: see staged.lua.
--
-- `write_message(number, task, msg)`: must come before other fields of the task. `new_message(number, msg)`: returns
-- the message.
-- USES: staged

local function write_message(number, task, msg)
  if msg == '' and is_staged(number) then
    unstage(number, task)
  else
    redis.call('HSET', task, 'msg', msg)
  end
end

local function new_message(number, msg)
  if msg == '' and is_staged(number) then
    return redis.call('HGET', staged_prefix .. number, 'msg')
  end
  return msg
end
