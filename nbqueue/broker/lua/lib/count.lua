-- Count processed and failed tasks: in all, and on the day (UTC), which is kept for 90 days.
-- A total that would overflow starts again at the count, as Asynq's does.

local function count(total, day, number, expire_at)
  local current = tonumber(redis.call('GET', total) or '0')
  if current > 9223372036854775807 - number then
    redis.call('SET', total, number)
  else
    redis.call('INCRBY', total, number)
  end
  if redis.call('INCRBY', day, number) == number then
    redis.call('EXPIREAT', day, expire_at)
  end
end
