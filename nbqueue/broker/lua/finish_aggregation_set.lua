-- Replace the members of an aggregation set with the task that they became.
--
-- Only while the caller holds the set. All or nothing: the task and its members never exist together. Its due
-- time and its own group determine its state. If another task holds its unique lock, that one stands for it, and
-- the members are deleted all the same. The members release their locks, and their ends are announced with the id
-- of the task, as JSON. Safe to repeat: the set is gone then.
--
-- KEYS: set, aggregation_sets, task, pending, scheduled, group_set, groups, events, lock
-- ARGV: id, msg, due_ms (empty: now), lock_ms (how long it is unique once due; empty: it is not),
--   group (of the task; empty: none), now_ms, event_cap, task_prefix, ends_prefix, wake
-- RETURNS: the string LOST (the caller no longer held the set; nothing was written), or ENQUEUED, or
--   EXISTS (the id does; nothing was written), or DUPLICATE and the id of the task that holds the lock
-- USES: check_types, event, announce_ends, locks, enqueue_into_state

check_new_task_keys()
check('ZCARD', set, aggregation_sets)
if tonumber(redis.call('ZSCORE', aggregation_sets, set) or '0') <= 0 then
  return 'LOST'
end
if redis.call('EXISTS', task) == 1 then
  return { 'EXISTS' }
end
local members, ends, locks, is_member = {}, {}, {}, {}
for _, member in ipairs(redis.call('ZRANGE', set, 0, -1)) do
  if redis.pcall('HGET', task_prefix .. member, 'state') == 'aggregating' then
    members[#members + 1] = member
    is_member[member] = true
    locks[#locks + 1] = lock_of(task_prefix .. member, member)
  end
end
local holder = lock_ms ~= '' and redis.call('GET', lock)
local is_taken = holder and not is_member[holder] and names_lock(task_prefix .. holder, lock)
local stands = is_taken and holder or id
for _, each in ipairs(locks) do
  redis.call('DEL', each)
end
for first = 1, #members, 500 do
  local slice, keys = {}, {}
  for i = first, math.min(first + 499, #members) do
    slice[#slice + 1] = members[i]
    keys[#keys + 1] = task_prefix .. members[i]
    add_end(ends, members[i], 'd', cjson.encode(stands))
  end
  redis.call('DEL', unpack(keys))
  event(events, event_cap, now_ms, 'aggregated', slice)
end
redis.call('DEL', set)
redis.call('ZREM', aggregation_sets, set)
announce_ends(ends_prefix, ends)

-- Tasks that wait for locks which are free now may run.
local function hand_on_all()
  for _, each in ipairs(locks) do
    if redis.call('EXISTS', each) == 0 then
      hand_on_lock(each)
    end
  end
end

if is_taken then
  hand_on_all()
  return { 'DUPLICATE', holder }
end
if lock_ms ~= '' then
  local wait = math.max((tonumber(due_ms) or 0) - tonumber(now_ms), 0)
  redis.call('SET', lock, id, 'PX', string.format('%.0f', wait + tonumber(lock_ms)))
  redis.call('HSET', task, 'unique_key', lock, 'nbq:unique', lock_ms)
end
redis.call('HSET', task, 'msg', msg)
enqueue_into_state(task, id)
hand_on_all()
return { 'ENQUEUED' }
