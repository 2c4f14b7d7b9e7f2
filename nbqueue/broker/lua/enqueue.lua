-- Make new tasks pending, behind all others.
--
-- A single task goes to a worker that offered to take it, if nothing is pending, and is active at once. All or
-- nothing for each task; a task whose id exists is left as it is and reported. Nothing is written while the store
-- lacks the code that the tasks name. With `note` set, the index gets the current time for that code; once a minute
-- is enough. `limits` names the limit of each task, one in each line, or one for all, or none. Safe to repeat: with
-- `repeated` set, a task that an earlier try wrote (the same id and message) counts as written now.
--
-- KEYS: pending, events, code, code_index, offers, *tasks
-- ARGV: now_ms, event_cap, fingerprint (empty: no code), note, repeated, limits, then for each task: id, msg
-- RETURNS: the string NOCODE, or the positions (from 0) of tasks whose id existed
-- USES: event, handoff, task_limits, staged

local call = redis.call

if fingerprint ~= '' then
  if call('EXISTS', code) == 0 then
    return 'NOCODE'
  end
  if note == '1' then
    -- Redis does not undo what a script wrote before it fails, so it must fail before it writes.
    call('LLEN', pending)
    call('XLEN', events)
    call('ZADD', code_index, now_ms, fingerprint)
  end
end
local since = now_ms .. '000000'
local conflicts, ids, numbers, written = {}, {}, {}, {}
local count = 0
for i = 0, #KEYS - tasks_at do
  local task, msg = KEYS[tasks_at + i], ARGV[rest_at + 2 * i + 1]
  if written[task] or call('EXISTS', task) == 1 then
    if repeated == '1' and msg == '' and is_staged(i) then
      msg = call('HGET', staged_prefix .. i, 'msg')
    end
    if repeated ~= '1' or (written[task] or redis.pcall('HGET', task, 'msg')) ~= msg then
      conflicts[#conflicts + 1] = i
    end
  else
    count = count + 1
    ids[count] = ARGV[rest_at + 2 * i]
    numbers[count] = i
    written[task] = msg
  end
end
if count == 0 then
  return conflicts
end
local task, msg = KEYS[tasks_at], ARGV[rest_at + 1]
local offer = tasks_at == #KEYS and limits == '' and msg ~= '' and call('LINDEX', offers, -1)
if offer and call('LLEN', pending) == 0 then
  call('XLEN', events)
  if hand_off(offer, task, ids[1], msg, since) then
    return conflicts
  end
end
-- First the writes that may be refused, because a key is of another type or for want of memory.
call('LPUSH', pending, unpack(ids))
local is_said, refusal = pcall(event, events, event_cap, now_ms, 'enqueued', ids)
if not is_said then
  call('LTRIM', pending, count, -1)
  error(refusal)
end
for n = 1, count do
  local i = numbers[n]
  local task, msg = KEYS[tasks_at + i], ARGV[rest_at + 2 * i + 1]
  if msg == '' and is_staged(i) then
    unstage(i, task)
    call('HSET', task, 'state', 'pending', 'pending_since', since)
  else
    call('HSET', task, 'msg', msg, 'state', 'pending', 'pending_since', since)
  end
  if limits ~= '' then
    note_limit(task, i + 1)
  end
end
return conflicts
