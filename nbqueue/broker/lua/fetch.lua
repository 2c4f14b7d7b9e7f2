-- Take up to `limit` of the oldest pending tasks, with a lease.
--
-- Each task is in active and in lease, with a token that only its holder knows, or still pending.
-- Ids without a task, or of a task that is not pending, are dropped from the line: they could
-- never run. A paused queue gives nothing. Not safe to repeat blindly: what was taken stays taken
-- until its lease runs out.
--
-- KEYS: pending, paused, active, lease, events
-- ARGV: task_prefix, limit, now_ms, lease_until (Unix seconds, never whole), token, event_cap
-- RETURNS: the string PAUSED, or for each task, oldest first: id, msg, pending_since (ns, may be
--   empty), attempt (from 1), lost
-- USES: types, append

if redis.call('EXISTS', paused) == 1 then
  return 'PAUSED'
end
local line = redis.call('LRANGE', pending, -tonumber(limit), -1)
if #line == 0 then
  return {}
end
check('LLEN', active)
check('ZCARD', lease)
check('XLEN', events)
local reply, ids, leases, taken = {}, {}, {}, {}
for i = #line, 1, -1 do
  local id = line[i]
  local found = redis.pcall('HMGET', task_prefix .. id,
    'msg', 'state', 'pending_since', 'nbq:attempt', 'nbq:lost')
  if found[1] and found[2] == 'pending' and not taken[id] then
    taken[id] = true
    reply[#reply + 1] = id
    reply[#reply + 1] = found[1]
    reply[#reply + 1] = found[3] or ''
    reply[#reply + 1] = (tonumber(found[4] or '0') or 0) + 1
    reply[#reply + 1] = found[5] or '0'
    ids[#ids + 1] = id
    leases[#leases + 1] = lease_until
    leases[#leases + 1] = id
  end
end
redis.call('LTRIM', pending, 0, -#line - 1)
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
return reply
