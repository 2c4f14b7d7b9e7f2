-- Give a new task to a worker that waits for it, and not to the line.
--
-- An offer is `<until, Unix ms> <length of the lease, ms> <channel> <token>`; each is used once. The worker
-- is told on its channel: `<token> <pending since, ns> <length of the id> <queue>`, a line feed, the
-- id, the message. What it is told is what it gets when it fetches.
--
-- `hand_over(task, id, msg, since)`: whether a worker took the task, which is then active, with a
-- lease. The caller has looked at the types of `pending` and `events`, and found no task in the line.
-- USES: event

local function hand_over(task, id, msg, since)
  local prefix, own = string.sub(pending, 1, -8), string.sub(events, 1, -7)
  if redis.call('EXISTS', prefix .. 'paused') == 1
    or redis.call('HEXISTS', own .. 'settings', 'concurrency') == 1 then
    return false
  end
  local active, lease = prefix .. 'active', prefix .. 'lease'
  redis.call('LLEN', active)
  redis.call('ZCARD', lease)
  local offer = redis.call('RPOP', offers)
  while offer do
    local holds_until, lease_ms, channel, token = string.match(offer, '^(%d+) (%d+) (%S+) (.+)$')
    if token and tonumber(holds_until) > tonumber(now_ms) then
      local ends = now_ms + lease_ms
      local rest = ends % 1000
      -- A score of ours is never whole; see lib/fence.lua.
      local score = string.format('%d.%03d', (ends - rest) / 1000, rest == 0 and 1 or rest)
      -- First what may be refused, for want of memory: who was told of a task runs it.
      redis.call('HSET', task, 'msg', msg, 'state', 'active', 'nbq:lease', token .. '|' .. since,
        'nbq:attempt', 1)
      redis.call('LPUSH', active, id)
      redis.call('ZADD', lease, score, id)
      local told = table.concat({ token, since, #id, string.sub(pending, 8, -10) }, ' ')
      if redis.call('PUBLISH', channel, told .. '\n' .. id .. msg) > 0 then
        event(events, event_cap, now_ms, 'enqueued', { id })
        event(events, event_cap, now_ms, 'started', { id })
        return true
      end
      -- It has gone without a word.
      redis.call('ZREM', lease, id)
      redis.call('LREM', active, 1, id)
      redis.call('DEL', task)
    end
    offer = redis.call('RPOP', offers)
  end
  return false
end
