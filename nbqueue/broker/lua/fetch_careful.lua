-- Take up to `limit` of the oldest pending tasks, with a lease: fetch.lua for all kinds of tasks.
--
-- Each task is in active and in lease, with a token that only its holder knows, or still pending.
-- Ids without a task, or of a task that is not pending, are dropped from the line: they could
-- never run. A paused queue gives nothing, and one that has as many active tasks as it may have
-- neither. A task that its limit keeps back is parked, and so is one that waits for the lock of
-- another; the next in the line come instead, of which 500 are looked at. A message of more than
-- LARGE bytes does not come along: Lua would read all of it, byte by byte. Not safe to repeat
-- blindly: what was taken stays taken until its lease runs out.
--
-- KEYS: pending, paused, active, lease, events, settings
-- ARGV: task_prefix, limit, now_ms, lease_until (Unix seconds, never whole), token, event_cap
-- RETURNS: the string PAUSED or FULL, or for each task, oldest first: id, msg (or how long it is, as
--   a number, if that is much), pending_since (ns, may be empty), attempt (from 1), lost
-- USES: types, append, limits, locks

local MOST_LOOKED_AT = 500
local SLICE = 100
local LARGE = 65536

if redis.call('EXISTS', paused) == 1 then
  return 'PAUSED'
end
local most = tonumber(limit)
local allowed = tonumber(redis.call('HGET', settings, 'concurrency') or '')
if allowed then
  most = math.min(most, allowed - redis.call('LLEN', active))
  if most <= 0 then
    return 'FULL'
  end
end
local line = redis.call('LRANGE', pending, -most, -1)
if #line == 0 then
  return {}
end
check('LLEN', active)
check('ZCARD', lease)
check('XLEN', events)
local reply, ids, leases, taken = {}, {}, {}, {}
local parked, names, order = {}, {}, {}

-- Whether a task that does not simply run may run now; if not, it is parked.
local function is_let_in(id, name, waits_for)
  local task = task_prefix .. id
  local lock = waits_for and string.match(waits_for, '^lock:(.*)$')
  if lock and redis.pcall('GET', lock) ~= id then
    local holder = redis.pcall('GET', lock)
    if type(holder) == 'string' and names_lock(task_prefix .. holder, lock) then
      park(id, waits_for, true)
      parked[#parked + 1] = id
      return false
    end
    local lock_ms = tonumber(redis.call('HGET', task, 'nbq:unique') or '') or 1000
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
    may_run = redis.call('EXISTS', own_keys .. 'wait:' .. what) == 0 and admit(name, id)
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

local function take(id)
  local task = task_prefix .. id
  local size = redis.pcall('HSTRLEN', task, 'msg')
  local is_large = type(size) == 'number' and size > LARGE
  local found = redis.pcall('HMGET', task, is_large and 'state' or 'msg', 'state', 'pending_since',
    'nbq:attempt', 'nbq:lost', 'nbq:limit', 'nbq:parked')
  if not found[1] or found[2] ~= 'pending' or taken[id] then
    return
  end
  if (found[6] or found[7]) and not is_let_in(id, found[6], found[7]) then
    return
  end
  taken[id] = true
  reply[#reply + 1] = id
  reply[#reply + 1] = is_large and size or found[1]
  reply[#reply + 1] = found[3] or ''
  reply[#reply + 1] = (tonumber(found[4] or '0') or 0) + 1
  reply[#reply + 1] = found[5] or '0'
  ids[#ids + 1] = id
  leases[#leases + 1] = lease_until
  leases[#leases + 1] = id
end

local looked_at = 0
while true do
  local used = 0
  while used < #line and #ids < most do
    take(line[#line - used])
    used = used + 1
  end
  looked_at = looked_at + used
  redis.call('LTRIM', pending, 0, -used - 1)
  if #parked == 0 or #ids == most or looked_at >= MOST_LOOKED_AT then
    break
  end
  line = redis.call('LRANGE', pending, -SLICE, -1)
  if #line == 0 then
    break
  end
end
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
    serve_limit(name)
  end
end
return reply
