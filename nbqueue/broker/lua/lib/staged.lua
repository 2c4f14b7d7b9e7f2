-- Large values do not come as arguments: Lua reads all of a string that it is given, byte by byte.
-- They lie in the hash `staged:<number>`, which the same transaction wrote and will delete.
--
-- `is_staged(number)`: is there such a hash? `unstage(number, task)`: it becomes the task, with what
-- the task has beside it.
--
-- Expects the local `events`, a key of the queue.

local staged_prefix = string.sub(events, 1, -7) .. 'staged:'

local function is_staged(number)
  return redis.call('EXISTS', staged_prefix .. number) == 1
end

local function unstage(number, task)
  local staged = staged_prefix .. number
  local names, pairs_left = {}, {}
  for _, name in ipairs(redis.call('HKEYS', task)) do
    if redis.call('HEXISTS', staged, name) == 0 then
      names[#names + 1] = name
    end
  end
  if #names > 0 then
    for i, value in ipairs(redis.call('HMGET', task, unpack(names))) do
      pairs_left[2 * i - 1] = names[i]
      pairs_left[2 * i] = value
    end
    redis.call('HSET', staged, unpack(pairs_left))
  end
  redis.call('RENAME', staged, task)
end
