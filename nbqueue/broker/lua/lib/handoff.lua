-- Hand a new task to a worker that offered to take it.
--
-- An offer is `<until, Unix ms> <end of the lease, a score> <channel> <token>`, and is used once. It is compared with
-- the clock of the server, since the clock of a client may have stood still. The worker gets the task in a message
-- on its channel: `<token> <pending since, ns> <length of the id> <queue>`, a line feed, the id, the message of the
-- task.
--
-- `hand_off(offer, task, id, msg, since)`: returns whether a worker took the task, which is then active with a
-- lease. The caller has checked the types of `pending` and `events`, found no pending task, and read the oldest
-- offer. In a queue with a limit of its own there are no offers.
-- USES: event, publish

local function hand_off(offer, task, id, msg, since)
  local prefix = string.sub(pending, 1, -8)
  if redis.call('EXISTS', prefix .. 'paused') == 1 then
    return false
  end
  local active, lease = prefix .. 'active', prefix .. 'lease'
  local time = redis.call('TIME')
  local now = time[1] * 1000 + time[2] / 1000
  while offer do
    local holds_until, score, channel, token = string.match(offer, '^(%d+) (%d+%.%d+) (.+) (%S+)$')
    -- The reply of PUBLISH would also count subscribers of patterns.
    local heard = token and tonumber(holds_until) > now and redis.pcall('PUBSUB', 'NUMSUB', channel)
    if heard and tonumber(heard[2] or 0) > 0 then
      -- First the writes that may be refused: a worker that got the message runs the task.
      redis.call('HSET', task, 'msg', msg, 'state', 'active', 'nbq:lease', token .. '|' .. since,
        'nbq:attempt', '1')
      local pushed = redis.pcall('LPUSH', active, id)
      local leased = type(pushed) == 'number' and redis.pcall('ZADD', lease, score, id)
      if type(leased) ~= 'number' then
        if leased then
          redis.call('LPOP', active)
        end
        redis.call('DEL', task)
        error((leased or pushed).err)
      end
      redis.call('RPOP', offers)
      local message = token .. ' ' .. since .. ' ' .. #id .. ' ' .. string.sub(pending, 8, -10)
      if not publish(channel, message .. '\n' .. id .. msg) then
        -- The caller has no right to the channel: the task becomes pending.
        redis.call('ZREM', lease, id)
        redis.call('LPOP', active)
        redis.call('DEL', task)
        return false
      end
      local ids = { id }
      event(events, event_cap, now_ms, 'enqueued', ids)
      event(events, event_cap, now_ms, 'started', ids)
      return true
    end
    redis.call('RPOP', offers)
    offer = redis.call('LINDEX', offers, -1)
  end
  return false
end
