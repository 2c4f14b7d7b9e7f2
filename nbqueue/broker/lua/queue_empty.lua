-- Delete the tasks in one list or set of a queue that is being removed, at most `limit`.
--
-- The caller repeats until 0. Deletes hashes and unique locks, and announces the ends of tasks that had not ended.
-- Deletes no active task while one of these is held under a lease that has not expired. An id whose task is in
-- another state is only removed from the list or set. Safe to repeat.
--
-- KEYS: place (a list or a sorted set), lease, groups, aggregation_sets, events
-- ARGV: state (of the tasks in there), group (empty: none), task_prefix, now_ms, limit,
--   event_cap, ends_prefix
-- RETURNS: the string HELD, or how many ids were dealt with
-- USES: check_types, event, announce_ends, delete_tasks

check('ZCARD', lease, aggregation_sets)
check('SCARD', groups)
check('XLEN', events)
local is_list = state == 'pending' or state == 'active'
local ids = is_list and redis.call('LRANGE', place, -tonumber(limit), -1)
  or redis.call('ZRANGE', place, 0, tonumber(limit) - 1)
if state == 'active' then
  for _, id in ipairs(ids) do
    local until_s = redis.call('ZSCORE', lease, id)
    if until_s and tonumber(until_s) * 1000 > tonumber(now_ms) then
      return 'HELD'
    end
  end
end
local deleted, ends = delete_tasks(ids, state), {}
if state ~= 'completed' and state ~= 'archived' then
  for _, id in ipairs(deleted) do
    add_end(ends, id, 'x', '')
  end
end
if is_list then
  redis.call('LTRIM', place, 0, -#ids - 1)
elseif #ids > 0 then
  redis.call('ZREM', place, unpack(ids))
end
if state == 'active' and #ids > 0 then
  redis.call('ZREM', lease, unpack(ids))
end
if state == 'aggregating' and redis.call('EXISTS', place) == 0 then
  redis.call('ZREM', aggregation_sets, place)
  if group ~= '' then
    redis.call('SREM', groups, group)
  end
end
if #deleted > 0 then
  event(events, event_cap, now_ms, 'deleted', deleted)
  announce_ends(ends_prefix, ends)
end
return #ids
