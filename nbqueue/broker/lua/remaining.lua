-- Report whether a queue has tasks to run now, or will have by a given time. Changes nothing.
--
-- A paused queue has none. Parked tasks count if their limit or lock is to be looked at by that time.
--
-- KEYS: paused, pending, scheduled, retry, waiting
-- ARGV: task_prefix, until_ms
-- RETURNS: 1 or 0
-- USES: exact_due

local MOST = 500
local until_s = math.floor(tonumber(until_ms) / 1000)

-- In the seconds around that time only some tasks may be due. If there are too many to look at, assume
-- that some are: those seconds are over soon.
local function is_due(from)
  if redis.call('ZCOUNT', from, '-inf', until_s - 1) > 0 then
    return true
  end
  local near = redis.call('ZRANGEBYSCORE', from, '(' .. until_s - 1, until_s + 1, 'WITHSCORES',
    'LIMIT', 0, MOST)
  if #near == 2 * MOST then
    return true
  end
  for i = 1, #near, 2 do
    if exact_ms(near[i], tonumber(near[i + 1])) <= tonumber(until_ms) then
      return true
    end
  end
end

if redis.call('EXISTS', paused) == 1 then
  return 0
elseif redis.call('LLEN', pending) > 0 or is_due(scheduled) or is_due(retry) then
  return 1
end
return redis.call('ZCOUNT', waiting, '-inf', until_ms) > 0 and 1 or 0
