-- Finish tasks that succeeded: keep each with its result for its retention, or delete it.
--
-- For all kinds of tasks; complete.lua is faster. Only the holder of a task's lease can finish it; other tasks are
-- not changed and are reported. Updates counters, events and attempts, releases unique locks, frees places under
-- limits, and announces the ends. Safe to repeat: a second call finds that the tasks are not held.
--
-- `large` is empty, or has a letter for each task. '.': the task is not large. 'm': its message is staged and comes
-- empty here. 'r': its message and result are. 'd': it is large and is to be deleted; its message names no lock.
-- 'p': the transaction has written the pieces of its result into the task, and the head comes here. Without
-- `large` the arguments are those of complete.lua, which have no preview.
--
-- KEYS: active, lease, completed, events, attempts, processed, processed_day, *tasks
-- ARGV: now_ms, event_cap, attempt_cap, day_expire_at, ends_prefix, worker, host, large, then for each
--   task: id, fence, keep_until (Unix seconds; empty: delete), msg, result, type, attempt,
--   started_ms, finished_ms, waited_ms (may be empty), peak_memory (bytes),
--   preview (may be empty)
-- RETURNS: the positions (from 0) of tasks that the caller no longer held
-- USES: check_types, record_attempt, announce_ends, fence, counters, locks, capacity, limit_places, staged, large_values

local WIDTH = large == '' and 11 or 12
check('LLEN', active)
check('ZCARD', lease, completed)
check('XLEN', events, attempts)
check_counters(processed, processed_day)
local refused, held, locks, limited, seen = {}, {}, {}, {}, {}
local asked = {}
local function kind_of(i)
  local letter = string.sub(large, i + 1, i + 1)
  return letter ~= '.' and letter or ''
end
for i = 0, #KEYS - tasks_at do
  asked[i + 1] = ARGV[rest_at + WIDTH * i]
end
local function take_back_refused()
  for _, i in ipairs(refused) do
    if kind_of(i) == 'p' then
      drop_refused_pieces(KEYS[tasks_at + i], ARGV[rest_at + WIDTH * i + 4])
    end
  end
end
local scores = #asked > 0 and redis.call('ZMSCORE', lease, unpack(asked))
for i = 0, #KEYS - tasks_at do
  local at = rest_at + WIDTH * i
  local id = ARGV[at]
  local is_ours, may_lock, limit = is_held(lease, KEYS[tasks_at + i], id, ARGV[at + 1],
    scores[i + 1], kind_of(i) ~= '' and kind_of(i) ~= 'p')
  if is_ours and not seen[id] then
    seen[id] = true
    if (kind_of(i) == 'm' or kind_of(i) == 'r') and not is_staged(i) then
      error('what ' .. id .. ' returned is not staged')
    end
    held[#held + 1] = i
    if may_lock then
      locks[#locks + 1] = lock_of(KEYS[tasks_at + i], id)
    end
    if limit then
      limited[#limited + 1] = { limit, id }
    end
  else
    refused[#refused + 1] = i
  end
end
if #held == 0 then
  take_back_refused()
  return refused
end
local ids, ends, kept = {}, {}, {}
for _, i in ipairs(held) do
  local task, at = KEYS[tasks_at + i], rest_at + WIDTH * i
  local id, keep_until, result = ARGV[at], ARGV[at + 2], ARGV[at + 4]
  if keep_until == '' then
    redis.call('DEL', task)
    add_end(ends, id, 'd', result)
  else
    kept[#kept + 1] = keep_until
    kept[#kept + 1] = id
    local kind = kind_of(i)
    forget_pieces(task, kind == 'p' and result or '')
    if kind == 'p' then
      redis.call('HSET', task, 'msg', ARGV[at + 3], 'state', 'completed', 'result', result)
      add_end(ends, id, 'C', '')
    elseif kind == '' then
      redis.call('HSET', task, 'msg', ARGV[at + 3], 'state', 'completed', 'result', result)
      add_end(ends, id, 'c', result)
    else
      unstage(i, task)
      redis.call('HSET', task, 'state', 'completed')
      if kind == 'm' then
        redis.call('HSET', task, 'result', result)
      end
      add_end(ends, id, kind == 'm' and 'c' or 'C', result)
    end
    if WIDTH == 12 and ARGV[at + 11] ~= '' then
      redis.call('HSET', task, 'nbq:preview', ARGV[at + 11])
    end
  end
  ids[#ids + 1] = id
  record_attempt(attempts, attempt_cap, {
    'task_id', id, 'type', ARGV[at + 5], 'attempt', ARGV[at + 6],
    'started_at', ARGV[at + 7], 'finished_at', ARGV[at + 8], 'waited', ARGV[at + 9],
    'worker', worker, 'host', host, 'outcome', 'completed', 'peak_memory', ARGV[at + 10] })
end
-- After the results are written, as the call may have a task twice, with one result.
take_back_refused()
release_all(active, lease, ids)
if #kept > 0 then
  redis.call('ZADD', completed, unpack(kept))
end
for _, lock in ipairs(locks) do
  redis.call('DEL', lock)
end
count(processed, processed_day, #ids, day_expire_at)
event(events, event_cap, now_ms, 'completed', ids)
announce_ends(ends_prefix, ends)
for _, lock in ipairs(locks) do
  hand_on_lock(lock)
end
free_limits(limited)
announce_capacity()
return refused
