-- Give a new task to a worker that waits for it, and not to the line.
--
-- An offer is `<until, Unix ms> <end of the lease, a score> <channel> <token>`; each is used once. Whether it
-- still holds the server's clock says, as that of a client may have stood still. The worker is told on its
-- channel: `<token> <pending since, ns> <length of the id> <queue>`, a line feed, the id, the message.
-- What it is told is what it gets when it fetches.
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
  local time = redis.call('TIME')
  local now = time[1] * 1000 + time[2] / 1000
  local offer = redis.call('LINDEX', offers, -1)
  while offer do
    local holds_until, score, channel, token = string.match(offer, '^(%d+) (%d+%.%d+) (%S+) (.+)$')
    -- PUBLISH would also count those who listen to patterns.
    if token and tonumber(holds_until) > now
      and tonumber(redis.call('PUBSUB', 'NUMSUB', channel)[2]) > 0 then
      -- First what may be refused, for want of memory: who was told of a task runs it.
      redis.call('HSET', task, 'msg', msg, 'state', 'active', 'nbq:lease', token .. '|' .. since,
        'nbq:attempt', 1)
      redis.call('RPOP', offers)
      redis.call('LPUSH', active, id)
      redis.call('ZADD', lease, score, id)
      event(events, event_cap, now_ms, 'enqueued', { id })
      event(events, event_cap, now_ms, 'started', { id })
      local told = table.concat({ token, since, #id, string.sub(pending, 8, -10) }, ' ')
      redis.call('PUBLISH', channel, told .. '\n' .. id .. msg)
      return true
    end
    redis.call('RPOP', offers)
    offer = redis.call('LINDEX', offers, -1)
  end
  return false
end
