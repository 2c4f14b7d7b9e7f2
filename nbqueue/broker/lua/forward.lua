-- Make scheduled and retried tasks that are due pending, at most `limit` of each kind.
--
-- The sets hold whole seconds: nbqueue rounds up and writes the exact time into the task; programs in Go cut the
-- fraction off, so a task without an exact time moves at the end of its second. Scheduled tasks of an aggregation
-- group join that group; retried ones left it to run alone. Ids without a task are dropped. Safe to repeat.
--
-- KEYS: scheduled, retry, pending, groups, events
-- ARGV: task_prefix, group_prefix, now_ms, limit, event_cap, wake
-- RETURNS: how many were moved, and when to look again (Unix ms as text, empty: nothing is to
--   come). That is when the next is due, or, for those of a later second, when that second begins.
-- USES: check_types, event, publish, exact_due

local now_s = math.floor(tonumber(now_ms) / 1000)
local since = now_ms .. '000000'
local due = {}
local next_look = nil

local function later(at)
  if not next_look or at < next_look then
    next_look = at
  end
end

-- Returns whether the first task of a set may be due, which it is not before the second of its score.
local function look_at_first(from)
  local score = tonumber(redis.call('ZRANGE', from, 0, 0, 'WITHSCORES')[2])
  if score and score <= now_s + 1 then
    return true
  elseif score then
    later((score - 1) * 1000 + 1)
  end
end

-- Mostly nothing is due, and the script ends here.
local is_due = look_at_first(scheduled)
is_due = look_at_first(retry) or is_due
if not is_due then
  return { 0, next_look and string.format('%.0f', next_look) or '' }
end
next_look = nil
check('LLEN', pending)
check('XLEN', events)
check('SCARD', groups)

local function take(from, id)
  local found = redis.pcall('HMGET', task_prefix .. id, 'msg', 'group')
  local group = from == scheduled and found[2]
  if group and group ~= '' then
    check('ZCARD', group_prefix .. group)
  end
  due[#due + 1] = { from, id, found[1], group }
end

local most = tonumber(limit)
for _, from in ipairs({ scheduled, retry }) do
  local before = #due
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', from, '-inf', now_s - 1, 'LIMIT', 0, most)) do
    take(from, id)
  end
  -- In these seconds some tasks are due and some are not.
  local near = redis.call('ZRANGEBYSCORE', from, '(' .. now_s - 1, now_s + 1, 'WITHSCORES',
    'LIMIT', 0, 4 * most)
  for i = 1, #near, 2 do
    local at = exact_ms(near[i], tonumber(near[i + 1]))
    if at > tonumber(now_ms) then
      later(at)
    elseif #due - before < most then
      take(from, near[i])
    else
      later(tonumber(now_ms))
    end
  end
end
local moved, aggregating, seen, filled = {}, {}, {}, {}
for _, each in ipairs(due) do
  local from, id, msg, group = each[1], each[2], each[3], each[4]
  local task = task_prefix .. id
  redis.call('ZREM', from, id)
  if seen[id] then
    msg = nil
  end
  seen[id] = true
  if msg and group and group ~= '' then
    redis.call('ZADD', group_prefix .. group, now_s, id)
    redis.call('SADD', groups, group)
    redis.call('HSET', task, 'state', 'aggregating', 'nbq:added', now_ms)
    filled[group] = true
    aggregating[#aggregating + 1] = id
  elseif msg then
    redis.call('HSET', task, 'state', 'pending', 'pending_since', since)
    moved[#moved + 1] = id
  end
end
if #moved > 0 then
  redis.call('LPUSH', pending, unpack(moved))
  event(events, event_cap, now_ms, 'forwarded', moved)
end
if #aggregating > 0 then
  event(events, event_cap, now_ms, 'aggregating', aggregating)
end
for group in pairs(filled) do
  publish(wake, 'group ' .. redis.call('ZCARD', group_prefix .. group) .. ' ' .. group)
end
for _, from in ipairs({ scheduled, retry }) do
  local first = redis.call('ZRANGE', from, 0, 0, 'WITHSCORES')
  local score = tonumber(first[2])
  if score and score <= now_s - 1 then
    later(tonumber(now_ms))
  elseif score and score > now_s + 1 then
    later((score - 1) * 1000 + 1)
  end
end
return { #moved + #aggregating, next_look and string.format('%.0f', next_look) or '' }
