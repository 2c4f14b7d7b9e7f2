-- Large values that do not come as arguments, which Lua would copy byte by byte.
--
-- The transaction of the script has written them into a hash `staged:<number>`, and deletes it at its end.
-- `is_staged(number)`: returns whether there is such a hash. `unstage(number, task)`: makes it the hash of the task,
-- and keeps the other fields of that.
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
