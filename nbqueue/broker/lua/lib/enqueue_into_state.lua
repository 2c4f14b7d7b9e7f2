-- Put a new task into its state: scheduled if it is due later, else aggregating if it has a group, else pending.
--
-- `enqueue_into_state(task, id)`: the task has its message already.
-- `check_new_task_keys()`: fails if one of the keys is of another type; call it before the first write.
--
-- Expects the locals `due_ms` (empty: now), `group` (empty: none), `now_ms`, `pending`, `scheduled`, `group_set`,
-- `groups`, `events`, `event_cap` and `wake`.
-- USES: publish, check_types, event

local function check_new_task_keys()
  check('LLEN', pending)
  check('ZCARD', scheduled)
  check('SCARD', groups)
  check('XLEN', events)
  if group ~= '' then
    check('ZCARD', group_set)
  end
end

local function enqueue_into_state(task, id)
  if group ~= '' then
    redis.call('HSET', task, 'group', group)
  end
  if due_ms ~= '' then
    redis.call('HSET', task, 'state', 'scheduled', 'nbq:due', due_ms)
    redis.call('ZADD', scheduled, math.ceil(tonumber(due_ms) / 1000), id)
    event(events, event_cap, now_ms, 'scheduled', { id })
    publish(wake, 'due ' .. due_ms)
  elseif group ~= '' then
    redis.call('HSET', task, 'state', 'aggregating', 'nbq:added', now_ms)
    redis.call('ZADD', group_set, math.floor(tonumber(now_ms) / 1000), id)
    redis.call('SADD', groups, group)
    event(events, event_cap, now_ms, 'aggregating', { id })
    publish(wake, 'group ' .. redis.call('ZCARD', group_set) .. ' ' .. group)
  else
    redis.call('HSET', task, 'state', 'pending', 'pending_since', now_ms .. '000000')
    redis.call('LPUSH', pending, id)
    event(events, event_cap, now_ms, 'enqueued', { id })
  end
end
