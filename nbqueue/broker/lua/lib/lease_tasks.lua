-- Lease tasks to a worker that fetches, and park those that a limit or a lock keeps back.
--
-- `lease_task(id, state, since, parked_for)`: takes a task if it is in this state and may run. `since` (ns) is when
-- it became pending, and `parked_for` what it is parked for (nil: as in the task). A message of more than LARGE
-- bytes is not read, since Lua would copy it byte by byte. `write_leases()`: writes the leases and returns the
-- reply: for each task, oldest first: id, msg (or its length, as a number, if it is large), pending_since (ns, may
-- be empty), attempt (from 1), lost.
--
-- Expects the locals `active`, `lease`, `task_prefix`, `lease_until`, `token`, `events`, `event_cap` and `now_ms`.
-- USES: numbers, limits, locks, event

local LARGE = 65536
local MOST_ATTEMPTS = 2147483647
local reply, ids, leases, taken = {}, {}, {}, {}
local parked, names, order = {}, {}, {}

-- Returns whether a task with a limit, or a parked task, may run now; parks it if not.
local function may_start(id, name, waits_for)
  local task = task_prefix .. id
  local lock = waits_for and string.match(waits_for, '^lock:(.*)$')
  if lock and redis.pcall('GET', lock) ~= id then
    local holder = redis.pcall('GET', lock)
    if type(holder) == 'string' and names_lock(task_prefix .. holder, lock) then
      park(id, waits_for, true)
      look_again(waits_for, now + LOOK_MS)
      parked[#parked + 1] = id
      return false
    end
    local lock_ms = number(redis.call('HGET', task, 'nbq:unique'), 1, LARGEST) or 1000
    redis.call('SET', lock, id, 'PX', whole(lock_ms))
  end
  if waits_for then
    redis.call('HDEL', task, 'nbq:parked')
  end
  if not name or name == '' then
    return true
  end
  local what = 'limit:' .. name
  if waits_for == TURN and redis.call('ZSCORE', own_keys .. what, id) then
    return true
  end
  local may_run = false
  if not names[name] then
    may_run = redis.call('EXISTS', own_set('wait:' .. what)) == 0 and admit(name, id)
  end
  if not may_run then
    park(id, what, true)
    parked[#parked + 1] = id
    if not names[name] then
      names[name] = true
      order[#order + 1] = name
    end
  end
  return may_run
end

local function lease_task(id, state, since, parked_for)
  local task = task_prefix .. id
  local size = redis.pcall('HSTRLEN', task, 'msg')
  local is_large = type(size) == 'number' and size > LARGE
  local found = redis.pcall('HMGET', task, is_large and 'state' or 'msg', 'state', 'pending_since',
    'nbq:attempt', 'nbq:lost', 'nbq:limit', 'nbq:parked')
  if not found[1] or found[2] ~= state or taken[id] then
    return
  end
  if (found[6] or found[7]) and not may_start(id, found[6], parked_for or found[7]) then
    return
  end
  taken[id] = true
  reply[#reply + 1] = id
  reply[#reply + 1] = is_large and size or found[1]
  reply[#reply + 1] = since or found[3] or ''
  reply[#reply + 1] = (whole_number(found[4], 0, MOST_ATTEMPTS - 1) or 0) + 1
  reply[#reply + 1] = found[5] or '0'
  ids[#ids + 1] = id
  leases[#leases + 1] = lease_until
  leases[#leases + 1] = id
end

local function write_leases()
  for i, id in ipairs(ids) do
    local task = task_prefix .. id
    redis.call('HSET', task, 'state', 'active',
      'nbq:lease', token .. '|' .. reply[5 * i - 2], 'nbq:attempt', reply[5 * i - 1])
    redis.call('HDEL', task, 'pending_since')
  end
  if #ids > 0 then
    redis.call('LPUSH', active, unpack(ids))
    redis.call('ZADD', lease, unpack(leases))
    event(events, event_cap, now_ms, 'started', ids)
  end
  if #parked > 0 then
    event(events, event_cap, now_ms, 'parked', parked)
    for _, name in ipairs(order) do
      release_by_limit(name)
    end
  end
  return reply
end
