-- Fetch up to `limit` pending tasks with a lease, oldest first.
--
-- For simple tasks only: if one of them has a limit, was parked or is large, nothing is done.
--
-- Each task is in active and in lease, with a token that only its holder knows, or still pending. Ids without a
-- pending task are removed from the list: they could never run. A paused queue gives nothing, nor does one that has
-- as many active tasks as it may have. Not safe to repeat: fetched tasks stay fetched until their lease expires.
--
-- KEYS: pending, paused, active, lease, events, settings
-- ARGV: task_prefix, limit, now_ms, lease_until (Unix seconds, never whole), token, event_cap
-- RETURNS: the string PAUSED, FULL or NEEDSFULL, or for each task, oldest first: id, msg,
--   pending_since (ns, may be empty), attempt (from 1), lost
-- FULL: fetch_full
-- USES: event

local call, pcall = redis.call, redis.pcall
local LARGE = 65536
local MOST_ATTEMPTS = 2147483647

if call('EXISTS', paused) == 1 then
  return 'PAUSED'
end
local most = tonumber(limit)
local set = pcall('HGET', settings, 'concurrency')
local allowed = type(set) == 'string' and tonumber(set)
if allowed and allowed >= 1 and allowed < 1e15 and allowed % 1 == 0 then
  most = math.min(most, allowed - call('LLEN', active))
  if most <= 0 then
    return 'FULL'
  end
end
local line = call('LRANGE', pending, -most, -1)
if #line == 0 then
  return {}
end
local names, found, taken, ids, leases, reply = {}, {}, {}, {}, {}, {}
local count = 0
for i = #line, 1, -1 do
  local id = line[i]
  local name = task_prefix .. id
  local task = pcall('HMGET', name, 'msg', 'state', 'pending_since', 'nbq:attempt',
    'nbq:lost', 'nbq:limit', 'nbq:parked')
  if task[1] and #task[1] > LARGE then
    return 'NEEDSFULL'
  end
  if task[1] and task[2] == 'pending' and not taken[id] then
    if task[6] or task[7] then
      return 'NEEDSFULL'
    end
    taken[id] = true
    count = count + 1
    ids[count] = id
    names[count] = name
    found[count] = task
  end
end
call('XLEN', events)
-- LTRIM is not refused even without memory, nor is any later write of this script.
call('LTRIM', pending, 0, -#line - 1)
if count == 0 then
  return {}
end
-- Backwards, as a short sorted set is searched from its beginning for each place.
for i = 1, count do
  leases[2 * i - 1] = lease_until
  leases[2 * i] = ids[count - i + 1]
end
-- Redis does not undo what a script wrote before it fails. To take it back here if a key is of another
-- type costs less than to check each key before.
local pushed = pcall('LPUSH', active, unpack(ids))
local leased = type(pushed) == 'number' and pcall('ZADD', lease, unpack(leases))
if type(leased) ~= 'number' then
  if leased then
    call('LTRIM', active, count, -1)
  end
  call('RPUSH', pending, unpack(line))
  return leased or pushed
end
for i = 1, count do
  local name, task = names[i], found[i]
  local since = task[3] or ''
  local attempt = (tonumber(task[4] or '0') or 0) + 1
  if not (attempt >= 1 and attempt <= MOST_ATTEMPTS) then
    attempt = 1
  end
  -- Redis would format a number with 17 digits, which is slow.
  call('HSET', name, 'state', 'active', 'nbq:lease', token .. '|' .. since,
    'nbq:attempt', attempt == 1 and '1' or attempt)
  call('HDEL', name, 'pending_since')
  local at = 5 * i
  reply[at - 4] = ids[i]
  reply[at - 3] = task[1]
  reply[at - 2] = since
  reply[at - 1] = attempt
  reply[at] = task[5] or '0'
end
event(events, event_cap, now_ms, 'started', ids)
return reply
