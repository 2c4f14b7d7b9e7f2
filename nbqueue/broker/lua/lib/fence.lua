-- Check that the caller holds a task, and end its lease.
--
-- `is_held(lease, task, id, fence, score, unread)`: returns whether the caller holds the task; whether the task may
-- have a unique lock; and the name of its limit, if any. `fence` is 'T' and the token with which the caller fetched
-- the task, or 'S' and the score of an expired lease. nbqueue's leases have a fraction, those of programs in Go are
-- whole seconds: a token with a whole score is left from an earlier attempt. `score` is that of the lease, if the
-- caller has read it. With `unread` the message, which may be large, is not read: a lock that only the message names
-- is not found.
--
-- `release(active, lease, id)`: ends the lease of a task. `release_all(active, lease, ids)`: of many, with fewer
-- commands for each.

local held_call, held_pcall, find_text = redis.call, redis.pcall, string.find
local checked_fence, fence_value, is_token = nil, nil, nil

local function is_held(lease, task, id, fence, score, unread)
  local found
  if unread then
    found = held_pcall('HMGET', task, 'state', 'nbq:lease', 'nbq:attempt', 'unique_key', 'nbq:limit')
    found[3] = held_pcall('HEXISTS', task, 'msg') == 1 and ''
  else
    found = held_pcall('HMGET', task, 'state', 'nbq:lease', 'msg', 'unique_key', 'nbq:limit')
  end
  if found[1] ~= 'active' or not found[3] then
    return false
  end
  if score == nil then
    score = held_call('ZSCORE', lease, id)
  end
  if not score then
    return false
  end
  if fence ~= checked_fence then
    checked_fence, is_token = fence, string.byte(fence) ~= 83 -- 'S'
    fence_value = string.sub(fence, 2) .. (is_token and '|' or '')
  end
  local is_ours
  if is_token then
    is_ours = found[2] and find_text(score, '.', 1, true) and find_text(found[2], fence_value, 1, true) == 1
  else
    is_ours = score == fence_value
  end
  return is_ours, found[4] or find_text(found[3], ':unique:', 1, true), found[5]
end

local function release(active, lease, id)
  -- From the end with the oldest tasks, which mostly end first: searching the whole list was most of the
  -- cost of finishing a task. The list has an id twice only if leases are fewer.
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
