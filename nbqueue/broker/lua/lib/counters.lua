-- Count processed and failed tasks, in total and by day (UTC), which is kept for 90 days.
--
-- A total that would overflow starts again at the count, as in Asynq. So does a counter that holds no number, since
-- it must not keep tasks from ending.
--
-- `check_counters(...)`: fails if a counter is of another type; call it before the first write.
-- `tally(key, number)`: counts in total only, and returns false if the counter started again.
-- `count(total, day, number, expire_at)`: counts both.

local function check_counters(...)
  for _, key in ipairs({ ... }) do
    redis.call('GET', key)
  end
end

local function tally(key, number)
  local counted = redis.pcall('INCRBY', key, number)
  if type(counted) ~= 'number' then
    redis.call('SET', key, number)
    return false
  end
  return counted
end

local function count(total, day, number, expire_at)
  -- In Lua's numbers the last 512 below the limit all look like the limit itself.
  if (tonumber(redis.call('GET', total) or '0') or 0) >= 9223372036854775807 - number then
    redis.call('SET', total, number)
  else
    tally(total, number)
  end
  local counted = tally(day, number)
  if not counted or counted == number then
    redis.call('EXPIREAT', day, expire_at)
  end
end
