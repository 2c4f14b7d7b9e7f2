-- Finish tasks that succeeded: keep each with its result for its retention, or delete it.
--
-- For simple tasks only: if one of them may have a unique lock, has a limit or is large, nothing is done.
--
-- Only the holder of a task's lease can finish it; other tasks are not changed and are reported. Updates counters,
-- events and attempts, and announces the ends. Safe to repeat: a second call finds that the tasks are not held.
--
-- KEYS: active, lease, completed, events, attempts, processed, processed_day, *tasks
-- ARGV: now_ms, event_cap, attempt_cap, day_expire_at, ends_prefix, worker, host, large, then for each
--   task: id, fence, keep_until (Unix seconds; empty: delete), msg, result, type, attempt,
--   started_ms, finished_ms, waited_ms (may be empty), peak_memory (bytes)
-- RETURNS: the string NEEDSFULL, or the positions (from 0) of tasks that the caller no longer held
-- FULL: complete_full
-- USES: event, announce_ends, fence, capacity

local call, pcall, find, sub = redis.call, redis.pcall, string.find, string.sub
local WIDTH = 11
local FEW, NEAR = 3, 32
if large ~= '' then
  return 'NEEDSFULL'
end

local active_count = call('LLEN', active)
call('XLEN', events)
call('XLEN', attempts)

local asked, refused, held, seen = {}, {}, {}, {}
local number = #KEYS - tasks_at + 1
for i = 1, number do
  asked[i] = ARGV[rest_at + WIDTH * (i - 1)]
end
local scores = number > 0 and call('ZMSCORE', lease, unpack(asked))
for i = 1, number do
  local id = asked[i]
  local is_ours, may_lock, limit = is_held(lease, KEYS[tasks_at + i - 1], id,
    ARGV[rest_at + WIDTH * (i - 1) + 1], scores[i])
  if not is_ours or seen[id] then
    refused[#refused + 1] = i - 1
  elseif may_lock or limit then
    return 'NEEDSFULL'
  else
    seen[id] = true
    held[#held + 1] = i
  end
end
if #held == 0 then
  return refused
end

local ids, kept = {}, {}
for n = 1, #held do
  local i = held[n]
  local id, keep_until = asked[i], ARGV[rest_at + WIDTH * (i - 1) + 2]
  ids[n] = id
  if keep_until ~= '' then
    local last = #kept
    kept[last + 1] = keep_until
    kept[last + 2] = id
  end
end
-- First the writes that may be refused for want of memory: keeping results is, releasing leases is not. So tasks
-- that are to be deleted end in any case.
if #kept > 0 then
  call('ZADD', completed, unpack(kept))
end
call('ZREM', lease, unpack(ids))
-- Redis would format a number with 17 digits, which is slow.
local count = #ids == 1 and '1' or #ids
local today, total = pcall('INCRBY', processed_day, count), pcall('INCRBY', processed, count)
-- A counter that holds no number, or would overflow, starts again at the count; see lib/counters.lua.
local function starts_again(reply)
  return type(reply) == 'table' and (find(reply.err, 'overflow', 1, true)
    or find(reply.err, 'not an integer', 1, true))
end
local day_again, again = starts_again(today), starts_again(total)
if (type(today) == 'table' and not day_again) or (type(total) == 'table' and not again) then
  -- A counter is of another type. Redis does not undo what a script wrote before it fails.
  for counter, reply in pairs({ [processed_day] = today, [processed] = total }) do
    if type(reply) == 'number' and call('DECRBY', counter, count) == 0 then
      call('DEL', counter)
    end
  end
  for n = 1, #held do
    call('ZADD', lease, scores[held[n]], ids[n])
    if #kept > 0 then
      call('ZREM', completed, ids[n])
    end
  end
  return type(today) == 'table' and not day_again and today or total
end
if again or total >= 9223372036854775807 then
  call('SET', processed, count)
end
if day_again then
  call('SET', processed_day, count)
end
if day_again or today == #ids then
  call('EXPIREAT', processed_day, day_expire_at)
end

local ends = {}
for n = 1, #held do
  local i = held[n]
  local task, at = KEYS[tasks_at + i - 1], rest_at + WIDTH * (i - 1)
  local id, result = asked[i], ARGV[at + 4]
  if ARGV[at + 2] == '' then
    call('DEL', task)
    add_end(ends, id, 'd', result)
  else
    call('HSET', task, 'msg', ARGV[at + 3], 'state', 'completed', 'result', result)
    add_end(ends, id, 'c', result)
  end
  call('XADD', attempts, 'MAXLEN', '~', attempt_cap, '*',
    'task_id', id, 'type', ARGV[at + 5], 'attempt', ARGV[at + 6],
    'started_at', ARGV[at + 7], 'finished_at', ARGV[at + 8], 'waited', ARGV[at + 9],
    'worker', worker, 'host', host, 'outcome', 'completed', 'peak_memory', ARGV[at + 10])
end
-- Mostly the oldest tasks end, which are together at the end of active: there they are removed with one
-- cut, and one by one elsewhere.
local near = math.max(2 * #ids, NEAR)
local gone, removed = {}, 0
if #ids > FEW then
  local staying = {}
  local oldest = call('LRANGE', active, -near, -1)
  for n = 1, #oldest do
    local id = oldest[n]
    if seen[id] then
      gone[id] = true
    else
      staying[#staying + 1] = id
    end
  end
  removed = #oldest - #staying
  if removed > FEW then
    call('LTRIM', active, 0, -#oldest - 1)
    if #staying > 0 then
      call('RPUSH', active, unpack(staying))
    end
  else
    gone, removed = {}, 0
  end
end
local is_short = active_count <= near
for n = 1, #ids do
  if not gone[ids[n]] then
    removed = removed + call('LREM', active, is_short and '0' or '-1', ids[n])
  end
end
-- LREM has searched all of a short list. A long one has an id twice only if leases are fewer; see
-- lib/fence.lua.
if not is_short and active_count - removed ~= call('ZCARD', lease) then
  for _, id in ipairs(ids) do
    call('LREM', active, 0, id)
  end
end
event(events, event_cap, now_ms, 'completed', ids)
announce_ends(ends_prefix, ends)
announce_capacity()
return refused
