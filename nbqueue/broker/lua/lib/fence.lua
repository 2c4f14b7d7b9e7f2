-- Is the task still in the hands of the caller?
--
-- `fence` is 'T' and the token that the caller got when it fetched the task, or 'S' and the score
-- of an expired lease that the caller found. A holder writes scores with a fraction, and a program
-- in Go writes whole seconds: a token left behind under a whole score is of an earlier run.
-- With the answer comes whether the task may have a unique lock, and the name of its limit, if any.
-- `score` is that of the lease, for who asked for many of them at once. With `unread` the message,
-- which may be large, is not looked into: a lock that only it names is not found.
--
-- `release(active, lease, id)`: it is active no more. `release_all(active, lease, ids)`: nor are
-- these, with fewer commands for each.

local function is_held(lease, task, id, fence, score, unread)
  local found
  if unread then
    found = redis.pcall('HMGET', task, 'state', 'nbq:lease', 'nbq:attempt', 'unique_key',
      'nbq:limit')
    found[3] = redis.pcall('HEXISTS', task, 'msg') == 1 and ''
  else
    found = redis.pcall('HMGET', task, 'state', 'nbq:lease', 'msg', 'unique_key', 'nbq:limit')
  end
  if found[1] ~= 'active' or not found[3] then
    return false
  end
  if score == nil then
    score = redis.call('ZSCORE', lease, id)
  end
  if not score then
    return false
  end
  local value = string.sub(fence, 2)
  if string.byte(fence) == 83 then -- 'S'
    return score == value, found[4] or string.find(found[3], ':unique:', 1, true), found[5]
  end
  return found[2] and string.find(score, '.', 1, true)
    and string.sub(found[2], 1, #value + 1) == value .. '|',
    found[4] or string.find(found[3], ':unique:', 1, true), found[5]
end

local function release(active, lease, id)
  -- From the end at which the oldest lie, who mostly end first: to look through the whole list for
  -- each was most of what it cost to finish a task. It lay there twice only if leases are fewer.
  redis.call('LREM', active, -1, id)
  redis.call('ZREM', lease, id)
  if redis.call('LLEN', active) ~= redis.call('ZCARD', lease) then
    redis.call('LREM', active, 0, id)
  end
end

local function release_all(active, lease, ids)
  for _, id in ipairs(ids) do
    redis.call('LREM', active, -1, id)
  end
  redis.call('ZREM', lease, unpack(ids))
  if redis.call('LLEN', active) ~= redis.call('ZCARD', lease) then
    for _, id in ipairs(ids) do
      redis.call('LREM', active, 0, id)
    end
  end
end
