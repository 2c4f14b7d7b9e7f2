-- Enqueue a task unless another task holds its unique lock.
--
-- The task becomes pending, or scheduled, or joins its aggregation group. All or nothing. A lock whose holder is
-- gone, or names another lock by now, is taken over. With `replace` set, a holder that does not run is deleted.
-- With `after` set, the task is parked until the tasks that hold the lock, or wait for it already, are done. A task
-- whose id exists takes no lock. Safe to repeat: with `repeated` set, a task that an earlier try wrote (the same id
-- and message) counts as written now.
--
-- KEYS: task, pending, scheduled, retry, archived, completed, groups, events, code, code_index,
--   lock, group_set
-- ARGV: id, msg, due_ms (empty: now), lock_ms (how long it is unique once due), now_ms, event_cap,
--   fingerprint (empty: no code), repeated, replace, after, limits, task_prefix, group_prefix,
--   ends_prefix, wake, group (empty: none)
-- RETURNS: the string NOCODE, ENQUEUED, or EXISTS (the id does); or the id of the task that holds
--   the lock, and its state
-- USES: check_types, event, announce_ends, locks, remove_from_state, enqueue_into_state, task_limits, write_message

check_new_task_keys()
check('ZCARD', retry)
if fingerprint ~= '' and redis.call('EXISTS', code) == 0 then
  return 'NOCODE'
end
if redis.call('EXISTS', task) == 1 then
  if repeated == '1' and redis.pcall('HGET', task, 'msg') == new_message(0, msg) then
    return 'ENQUEUED'
  end
  return 'EXISTS'
end
local holder = redis.call('GET', lock)
local held_task = holder and task_prefix .. holder
local state, held_group = nil, nil
if holder then
  state, held_group = names_lock(held_task, lock)
end
local is_replaced = false
if state then
  is_replaced = replace == '1' and state ~= 'active' and state ~= 'archived'
    and state ~= 'completed' and is_in_state(state, held_group, holder)
  -- A holder that ended stays to be read, and only loses its lock.
  if after ~= '1' and not is_replaced and not (replace == '1' and (state == 'archived' or state == 'completed')) then
    return { holder, state }
  end
end
if is_replaced then
  remove_from_state(state, held_group, holder)
  redis.call('DEL', held_task)
  event(events, event_cap, now_ms, 'deleted', { holder })
  local ends = {}
  add_end(ends, holder, 'x', '')
  announce_ends(ends_prefix, ends)
end
if fingerprint ~= '' then
  redis.call('ZADD', code_index, now_ms, fingerprint)
end
local wait = math.max((tonumber(due_ms) or 0) - tonumber(now_ms), 0)
local what = 'lock:' .. lock
local must_wait = after == '1'
  and (state or redis.call('EXISTS', own_set('wait:' .. what)) == 1)
write_message(0, task, msg)
redis.call('HSET', task, 'unique_key', lock, 'nbq:unique', lock_ms)
note_limit(task, 1)
if must_wait then
  if due_ms ~= '' then
    redis.call('HSET', task, 'nbq:due', due_ms)
  end
  park(id, what)
  event(events, event_cap, now_ms, 'parked', { id })
  if state then
    look_again(what, now + math.min(LOOK_MS, math.max(redis.call('PTTL', lock), 0) + 1))
  else
    hand_on_lock(lock)
  end
  return 'ENQUEUED'
end
redis.call('SET', lock, id, 'PX', string.format('%.0f', wait + tonumber(lock_ms)))
enqueue_into_state(task, id)
return 'ENQUEUED'
