-- Finish tasks that succeeded: keep each with its result for its retention, or delete it. The short
-- way, for tasks that hold nothing which others may wait for.
--
-- Only the holder of a task's lease can finish it; others change nothing and are told. Writes the
-- counters, the events, the attempts, and tells waiting clients. Safe to repeat: a second call
-- finds that the task is no longer held.
--
-- If one of them may have a unique lock, has a limit, or is large, nothing is done:
-- complete_careful.lua, which takes the same keys and arguments, is for those.
--
-- KEYS: active, lease, completed, events, attempts, processed, processed_day, *tasks
-- ARGV: now_ms, event_cap, attempt_cap, day_expire_at, ends_prefix, worker, host, large, then for each
--   task: id, fence, keep_until (Unix seconds; empty: delete), msg, result, type, attempt,
--   started_ms, finished_ms, waited_ms (may be empty), peak_memory (bytes)
-- RETURNS: the string CAREFUL, or the positions (from 0) of tasks that the caller no longer held
-- USES: event, announce

local call, pcall, find, sub = redis.call, redis.pcall, string.find, string.sub
local WIDTH = 11
if large ~= '' then
  return 'CAREFUL'
end

-- Redis undoes nothing of a script that stops in the middle, so it must stop before it writes.
local active_count, lease_count = call('LLEN', active), call('ZCARD', lease)
call('ZCARD', completed)
call('XLEN', events)
call('XLEN', attempts)
local total, today = call('GET', processed), call('GET', processed_day)
if (total and not find(total, '^%-?%d+$')) or (today and not find(today, '^%-?%d+$')) then
  error(processed .. ' or ' .. processed_day .. ' holds no number')
end

local asked, refused, held, seen = {}, {}, {}, {}
local number = #KEYS - tasks_at + 1
for i = 1, number do
  asked[i] = ARGV[rest_at + WIDTH * (i - 1)]
end
local scores = number > 0 and call('ZMSCORE', lease, unpack(asked))
for i = 1, number do
  local id, fence, score = asked[i], ARGV[rest_at + WIDTH * (i - 1) + 1], scores[i]
  -- See lib/fence.lua, which asks the same.
  local found = pcall('HMGET', KEYS[tasks_at + i - 1], 'state', 'nbq:lease', 'msg', 'unique_key',
    'nbq:limit')
  local is_held = false
  if found[1] == 'active' and found[3] and score and not seen[id] then
    local value = sub(fence, 2)
    if string.byte(fence) == 83 then -- 'S'
      is_held = score == value
    else
      is_held = found[2] and find(score, '.', 1, true)
        and sub(found[2], 1, #value + 1) == value .. '|'
    end
  end
  if not is_held then
    refused[#refused + 1] = i - 1
  elseif found[4] or found[5] or find(found[3], ':unique:', 1, true) then
    return 'CAREFUL'
  else
    seen[id] = true
    held[#held + 1] = i
  end
end
if #held == 0 then
  return refused
end

local ids, ends, kept = {}, {}, {}
local removed = 0
for n, i in ipairs(held) do
  local task, at = KEYS[tasks_at + i - 1], rest_at + WIDTH * (i - 1)
  local id, keep_until, result = ARGV[at], ARGV[at + 2], ARGV[at + 4]
  if keep_until == '' then
    call('DEL', task)
    ending(ends, id, 'd', result)
  else
    kept[#kept + 1] = keep_until
    kept[#kept + 1] = id
    call('HSET', task, 'msg', ARGV[at + 3], 'state', 'completed', 'result', result)
    ending(ends, id, 'c', result)
  end
  ids[n] = id
  call('XADD', attempts, 'MAXLEN', '~', attempt_cap, '*',
    'task_id', id, 'type', ARGV[at + 5], 'attempt', ARGV[at + 6],
    'started_at', ARGV[at + 7], 'finished_at', ARGV[at + 8], 'waited', ARGV[at + 9],
    'worker', worker, 'host', host, 'outcome', 'completed', 'peak_memory', ARGV[at + 10])
  removed = removed + call('LREM', active, -1, id)
end
-- An id lay in active twice only if leases are fewer; see lib/fence.lua.
if active_count - removed ~= lease_count - call('ZREM', lease, unpack(ids)) then
  for _, id in ipairs(ids) do
    call('LREM', active, 0, id)
  end
end
if #kept > 0 then
  call('ZADD', completed, unpack(kept))
end
-- See lib/count.lua.
if tonumber(total or '0') >= 9223372036854775807 - #ids then
  call('SET', processed, #ids)
else
  call('INCRBY', processed, #ids)
end
if call('INCRBY', processed_day, #ids) == #ids then
  call('EXPIREAT', processed_day, day_expire_at)
end
event(events, event_cap, now_ms, 'completed', ids)
announce(ends_prefix, ends)
-- See lib/room.lua.
local own_keys = sub(events, 1, -7)
if call('HEXISTS', own_keys .. 'settings', 'concurrency') == 1 then
  call('PUBLISH', own_keys .. 'wake', 'room')
end
return refused
