-- Count processed and failed tasks: in all, and on the day (UTC), which is kept for 90 days.
-- A total that would overflow starts again at the count, as Asynq's does.
--
-- `countable(...)` fails if a counter is no number: call it before the first write.

local function countable(...)
  for _, key in ipairs({ ... }) do
    local value = redis.call('GET', key)
    if value and not string.find(value, '^%-?%d+$') then
      error(key .. ' holds no number')
    end
  end
end

local function count(total, day, number, expire_at)
  -- In Lua's numbers the last 512 below the limit all look like the limit itself.
  if tonumber(redis.call('GET', total) or '0') >= 9223372036854775807 - number
    or type(redis.pcall('INCRBY', total, number)) ~= 'number' then
    redis.call('SET', total, number)
  end
  local counted = redis.pcall('INCRBY', day, number)
  if type(counted) ~= 'number' then -- it has more digits than a counter
    redis.call('SET', day, number)
  end
  if type(counted) ~= 'number' or counted == number then
    redis.call('EXPIREAT', day, expire_at)
  end
end
