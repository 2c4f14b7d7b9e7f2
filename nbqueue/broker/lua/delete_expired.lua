-- Delete completed tasks whose retention is over, at most `limit`.
--
-- The caller repeats until 0. An id whose task is not completed is only removed from the set. Safe to repeat.
--
-- KEYS: completed, events
-- ARGV: task_prefix, now_ms, limit, event_cap
-- RETURNS: how many ids were dealt with
-- USES: check_types, event, delete_tasks

check('XLEN', events)
local now_s = math.floor(tonumber(now_ms) / 1000)
local ids = redis.call('ZRANGEBYSCORE', completed, '-inf', now_s, 'LIMIT', 0, limit)
if #ids > 0 then
  redis.call('ZREM', completed, unpack(ids))
end
local deleted = delete_tasks(ids, 'completed')
if #deleted > 0 then
  event(events, event_cap, now_ms, 'expired', deleted)
end
return #ids
