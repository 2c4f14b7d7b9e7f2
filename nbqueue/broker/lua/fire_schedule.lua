-- Enqueue the task of a schedule that is due, or note why not, and set when it is due next.
--
-- Exactly once for each time: it writes only while the schedule is due at `expected_ms` and has the revision that
-- the caller saw. Nothing is enqueued if the caller gives a `reason` or, in this order, if the schedule is paused,
-- its last task has not ended (unless `overlap` is set), the id of the task exists, the store lacks the code, or
-- another task holds its unique lock. After the last run that `max_runs` allows, nothing is due. Fired by hand
-- (`expected_ms` empty), a paused schedule runs as well, and stays due when it was. A limit that was forgotten is
-- stored again. Safe to repeat.
--
-- KEYS: schedules, schedule_due, state, history, task, pending, events, code, code_index, lock,
--   name, limits
-- ARGV: schedule_id, revision, expected_ms, next_ms (empty: never again), now_ms, id, msg,
--   fingerprint (empty: no code), lock_ms (empty: not unique), name_seconds (empty: no name),
--   overlap, max_runs (0: any), reason (empty: enqueue), detail, event_cap, history_cap,
--   task_prefix, limit_name (empty: none), limit_numbers
-- RETURNS: a word, and when the schedule is due now (Unix ms, empty: never). The word: GONE (there
--   is no such schedule), STALE (it is due at another time, or was changed), ENQUEUED, or the
--   reason why nothing was enqueued: missed, error, paused, overlap, exists, code or unique
-- USES: check_types, event, numbers, locks

check('HLEN', schedules, state, limits)
check('ZCARD', schedule_due, code_index)
check('LLEN', pending)
check('XLEN', events, history)
local due = redis.call('ZSCORE', schedule_due, schedule_id)
local due_text = due and string.format('%.0f', due) or ''
if redis.call('HEXISTS', schedules, schedule_id) == 0 then
  return { 'GONE', '' }
end
local found = redis.call('HMGET', state, 'revision', 'paused', 'last', 'runs')
local is_by_hand = expected_ms == ''
if found[1] ~= revision or not is_by_hand and due_text ~= expected_ms then
  return { 'STALE', due_text }
end
local runs = whole_number(found[4], 0, LARGEST) or 0

local function ran_before()
  if not found[3] then
    return false
  end
  local last = redis.pcall('HGET', task_prefix .. found[3], 'state')
  return type(last) == 'string' and last ~= 'completed' and last ~= 'archived'
end

local function is_taken()
  local holder = redis.pcall('GET', lock)
  return type(holder) == 'string' and names_lock(task_prefix .. holder, lock)
end

if reason == '' then
  if found[2] and not is_by_hand then
    reason = 'paused'
  elseif overlap ~= '1' and not is_by_hand and ran_before() then
    reason, detail = 'overlap', found[3]
  elseif redis.call('EXISTS', task) == 1 then
    reason, detail = 'exists', id
  elseif fingerprint ~= '' and redis.call('EXISTS', code) == 0 then
    reason = 'code'
  elseif lock_ms ~= '' and is_taken() then
    reason, detail = 'unique', redis.call('GET', lock)
  end
end
if reason == '' then
  if fingerprint ~= '' then
    redis.call('ZADD', code_index, now_ms, fingerprint)
  end
  redis.call('HSET', task, 'msg', msg, 'state', 'pending', 'pending_since', now_ms .. '000000')
  if lock_ms ~= '' then
    redis.call('SET', lock, id, 'PX', lock_ms)
    redis.call('HSET', task, 'unique_key', lock, 'nbq:unique', lock_ms)
  end
  if limit_name ~= '' then
    redis.call('HSET', task, 'nbq:limit', limit_name)
    redis.call('HSETNX', limits, limit_name, limit_numbers .. '|' .. now_ms)
  end
  if name_seconds ~= '' then
    redis.call('SET', name, id, 'EX', name_seconds)
  end
  redis.call('LPUSH', pending, id)
  event(events, event_cap, now_ms, 'enqueued', { id })
  redis.call('HSET', state, 'last', id, 'prev', is_by_hand and now_ms or expected_ms)
  if not is_by_hand then
    runs = runs + 1
    redis.call('HSET', state, 'runs', string.format('%.0f', runs))
  end
end
redis.call('XADD', history, 'MAXLEN', '~', history_cap, '*', 'at', now_ms, 'due', expected_ms,
  'outcome', reason == '' and 'enqueued' or reason, 'task_id', reason == '' and id or '',
  'detail', detail)
if not is_by_hand then
  due_text = next_ms
  if tonumber(max_runs) > 0 and runs >= tonumber(max_runs) then
    due_text = ''
  end
  if due_text == '' then
    redis.call('ZREM', schedule_due, schedule_id)
  else
    redis.call('ZADD', schedule_due, due_text, schedule_id)
  end
end
return { reason == '' and 'ENQUEUED' or reason, due_text }
