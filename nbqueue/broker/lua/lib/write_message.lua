-- The message of a new task, which is staged if it comes empty: see staged.lua.
-- USES: staged
--
-- `write_message(number, task, msg)` writes it, first of all that the task has; `new_message(number, msg)`
-- reads it.

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
