-- Move scheduled and retried tasks that are due to the end of the line.
--
-- At most `limit` of each set. The sets hold whole seconds, the tasks the exact time: a task moves
-- when that has come. A task of an aggregation group goes to its group, whose name is made known.
-- Ids without a task are dropped. Safe to repeat.
--
-- KEYS: scheduled, retry, pending, groups, events
-- ARGV: task_prefix, group_prefix, now_ms, limit, event_cap
-- RETURNS: how many were moved, and when the next one is due (Unix ms as text, empty: none known)
-- USES: append

local now_s = math.floor(tonumber(now_ms) / 1000)
local since = now_ms .. '000000'
local moved, aggregating = {}, {}
local next_due = nil

local function later(due)
  if not next_due or due < next_due then
    next_due = due
  end
end

-- The exact time in ms of a task with this score: what a program in Go wrote later has no other.
local function exact(id, score)
  local due = tonumber(redis.call('HGET', task_prefix .. id, 'nbq:due') or '')
  if due and math.ceil(due / 1000) == score then
    return due
  end
  return score * 1000
end

local function move(from, id)
  local task = task_prefix .. id
  local found = redis.call('HMGET', task, 'msg', 'group')
  if not found[1] then
    redis.call('ZREM', from, id)
  elseif found[2] and found[2] ~= '' then
    redis.call('ZREM', from, id)
    redis.call('ZADD', group_prefix .. found[2], now_s, id)
    redis.call('SADD', groups, found[2])
    redis.call('HSET', task, 'state', 'aggregating')
    aggregating[#aggregating + 1] = id
  else
    redis.call('ZREM', from, id)
    redis.call('HSET', task, 'state', 'pending', 'pending_since', since)
    moved[#moved + 1] = id
  end
end

for _, from in ipairs({ scheduled, retry }) do
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', from, '-inf', now_s, 'LIMIT', 0, limit)) do
    move(from, id)
  end
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', from, now_s + 1, now_s + 1,
    'LIMIT', 0, limit)) do
    local due = exact(id, now_s + 1)
    if due <= tonumber(now_ms) then
      move(from, id)
    else
      later(due)
    end
  end
  local first = redis.call('ZRANGE', from, 0, 0, 'WITHSCORES')
  if first[1] then
    later(exact(first[1], tonumber(first[2])))
  end
end
if #moved > 0 then
  redis.call('LPUSH', pending, unpack(moved))
  event(events, event_cap, now_ms, 'forwarded', moved)
end
if #aggregating > 0 then
  event(events, event_cap, now_ms, 'aggregating', aggregating)
end
return { #moved + #aggregating, next_due and string.format('%.0f', next_due) or '' }
