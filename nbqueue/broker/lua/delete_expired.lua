-- Delete completed tasks whose retention is over, at most `limit`.
--
-- Safe to repeat; the caller repeats until 0. An id that does not belong here is dropped: its task
-- lives elsewhere, or nowhere.
--
-- KEYS: completed, events
-- ARGV: task_prefix, now_ms, limit, event_cap
-- RETURNS: how many ids were dealt with
-- USES: check_types, event, locks

check('XLEN', events)
local now_s = math.floor(tonumber(now_ms) / 1000)
local ids = redis.call('ZRANGEBYSCORE', completed, '-inf', now_s, 'LIMIT', 0, limit)
local deleted = {}
for _, id in ipairs(ids) do
  redis.call('ZREM', completed, id)
  if redis.pcall('HGET', task_prefix .. id, 'state') == 'completed' then
    release_lock(task_prefix .. id, id)
    redis.call('DEL', task_prefix .. id)
    deleted[#deleted + 1] = id
  end
end
if #deleted > 0 then
  event(events, event_cap, now_ms, 'expired', deleted)
end
return #ids
