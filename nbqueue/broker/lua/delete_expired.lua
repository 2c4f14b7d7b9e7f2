-- Delete completed tasks whose retention is over, at most `limit`.
--
-- Safe to repeat; the caller repeats until 0.
--
-- KEYS: completed, events
-- ARGV: task_prefix, now_ms, limit, event_cap
-- RETURNS: how many were deleted
-- USES: append

local now_s = math.floor(tonumber(now_ms) / 1000)
local ids = redis.call('ZRANGEBYSCORE', completed, '-inf', now_s, 'LIMIT', 0, limit)
for _, id in ipairs(ids) do
  redis.call('DEL', task_prefix .. id)
  redis.call('ZREM', completed, id)
end
if #ids > 0 then
  event(events, event_cap, now_ms, 'expired', ids)
end
return #ids
