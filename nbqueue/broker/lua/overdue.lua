-- Report which maintenance a queue needs. Changes nothing.
--
-- Workers run it for queues that they do not serve, most of which need none.
--
-- KEYS: scheduled, retry, active, lease, completed, attempts, waiting, schedule_due, cancels
-- ARGV: now_ms, oldest_attempt (Unix ms)
-- RETURNS: 1 or 0 for each: are tasks due, leases run out, tasks without a lease (or leases without
--   a task), retentions over, attempts too old, parked tasks to be looked at, schedules there, tasks
--   cancelled that run in Go

local now_s = math.floor(tonumber(now_ms) / 1000)

local function is_due(key, by)
  local first = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')
  return first[2] and tonumber(first[2]) <= by
end

local oldest = redis.call('XRANGE', attempts, '-', '+', 'COUNT', 1)[1]
local at = oldest and tonumber(string.match(oldest[1], '^%d+'))
local found = {
  is_due(scheduled, now_s + 1) or is_due(retry, now_s + 1),
  is_due(lease, tonumber(now_ms) / 1000),
  redis.call('LLEN', active) ~= redis.call('ZCARD', lease),
  is_due(completed, now_s),
  at and at < tonumber(oldest_attempt),
  is_due(waiting, tonumber(now_ms)),
  redis.call('EXISTS', schedule_due) == 1,
  redis.call('EXISTS', cancels) == 1,
}
local reply = {}
for i = 1, #found do
  reply[i] = found[i] and 1 or 0
end
return reply
