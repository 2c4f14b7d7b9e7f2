-- Limits by name: how many tasks may run at a time, and how many may begin in a period.
--
-- The hash `limits` holds for each name `concurrency|count|period_ms|burst|used_ms`, with empty fields for no limit.
-- Numbers out of range limit nothing. The set `limit:<name>` holds the tasks that run, or may run next, with the
-- time when that was last seen to be so. `rate:<name>` is when the next task could begin without a burst (GCRA); it
-- expires at that time.
--
-- `admit(name, id, is_late)`: gives the task a place and returns true; or returns false, and when to look again
-- (nil: when a place is freed). `release_by_limit(name)`: makes waiting tasks pending that may run now; these have
-- their places already. `free_limit(name, id)`: frees the place of a task; the caller then releases the next.
-- USES: numbers, park

local TURN = 'turn'
local MOST_SERVED = 100
local MOST_STALE_HOLDERS = 20
local LATEST_MS = 100
local SLACK_MS = 60000
local USED_MS = 3600000
local MOST = 1000000000
local LONGEST_MS = 366 * 86400000
local known_limits = {}

local function limit_of(name)
  local limit = known_limits[name]
  if limit == nil then
    local text = redis.pcall('HGET', own_keys .. 'limits', name)
    limit = false
    if type(text) == 'string' then
      local numbers, most, count, period, burst, used =
        string.match(text, '^((%d*)|(%d*)|(%d*)|(%d*))|?(%d*)')
      if most then
        limit = { most = number(most, 1, MOST), count = number(count, 1, MOST),
          period = number(period, 1, LONGEST_MS), burst = number(burst, 1, MOST) or 1 }
        if now - (number(used, 0, LARGEST) or 0) > USED_MS then
          redis.call('HSET', own_keys .. 'limits', name, numbers .. '|' .. now_ms)
        end
      end
    end
    known_limits[name] = limit
  end
  return limit
end

-- Programs in Go finish and delete tasks without freeing their places.
local function prune_limit(name)
  local holders = own_set('limit:' .. name)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', holders, '-inf', now - 1000,
    'LIMIT', 0, MOST_STALE_HOLDERS)) do
    local found = redis.pcall('HMGET', asynq_keys .. 't:' .. id, 'state', 'nbq:parked',
      'nbq:limit')
    if found[3] == name and (found[1] == 'active'
      or (found[1] == 'pending' and found[2] == TURN)) then
      redis.call('ZADD', holders, now_ms, id)
    else
      redis.call('ZREM', holders, id)
    end
  end
end

local function has_capacity(name, limit)
  local holders = own_set('limit:' .. name)
  if not limit.most or redis.call('ZCARD', holders) < limit.most then
    return true
  end
  prune_limit(name)
  return redis.call('ZCARD', holders) < limit.most
end

local function take_token(name, limit, is_late)
  if not limit.count or not limit.period then
    return true
  end
  local key = own_keys .. 'rate:' .. name
  local gap = limit.period / limit.count
  local room = (limit.burst - 1) * gap
  local at = number(redis.pcall('GET', key), 0, now + room + 2 * gap + SLACK_MS) or 0
  if at - room > now then
    return false, math.max(math.ceil(at - room), now + 10)
  end
  -- A waiting task that is looked at late keeps the time it was due; a new one begins now.
  at = math.max(at, is_late and at > 0 and now - LATEST_MS or now) + gap
  redis.call('SET', key, string.format('%.3f', at), 'PX', whole(math.max(at - now, 0) + 1000))
  return true
end

local function admit(name, id, is_late)
  local limit = limit_of(name)
  if limit then
    if not has_capacity(name, limit) then
      return false
    end
    local is_free, at = take_token(name, limit, is_late)
    if not is_free then
      return false, at
    end
    redis.call('ZADD', own_set('limit:' .. name), now_ms, id)
  end
  return true
end

local function release_by_limit(name)
  local what, ids, before = 'limit:' .. name, {}, nil
  if redis.call('EXISTS', own_set('wait:' .. what)) == 0 then
    redis.call('ZREM', own_set('waiting'), what)
    return 0
  end
  while #ids < MOST_SERVED do
    local id = first_parked(what)
    if not id then
      break
    end
    local may_run, at = admit(name, id, true)
    if not may_run then
      before = redis.call('ZSCORE', own_set('waiting'), what)
      look_again(what, at or now + LOOK_MS, at and tonumber(before or '') ~= at)
      break
    end
    redis.call('ZREM', own_set('wait:' .. what), id)
    ids[#ids + 1] = id
  end
  if #ids == MOST_SERVED then
    look_again(what, now, true)
  end
  if #ids > 0 then
    unpark(ids, what, limit_of(name) and TURN or nil)
  end
  return #ids
end

local function free_limit(name, id)
  return redis.call('ZREM', own_set('limit:' .. name), id) == 1
end
