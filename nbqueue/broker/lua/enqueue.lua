-- Put new tasks at the end of the line: pending, oldest first. One that comes alone while the line is
-- empty goes to a worker that offered to take it, if there is one, and is active at once.
--
-- All or nothing for each task; a task whose id exists is left as it is and reported. Calls name
-- the code they need, and none is written while the store lacks it. Safe to repeat: with `repeated`
-- set, a task that an earlier try wrote (the same id and message) counts as written now. `limits`
-- names the limit of each task, one a line; or of all, or of none.
--
-- KEYS: pending, events, code, code_index, offers, *tasks
-- ARGV: now_ms, event_cap, fingerprint (empty: no code), repeated, limits, then for each task: id, msg
-- RETURNS: the string NOCODE, or the positions (from 0) of tasks whose id existed
-- USES: event, hand, named, staged

local call = redis.call

local waiting = call('LLEN', pending)
call('XLEN', events)
local offer = waiting == 0 and tasks_at == #KEYS and limits == '' and call('LINDEX', offers, -1)
if fingerprint ~= '' then
  if call('EXISTS', code) == 0 then
    return 'NOCODE'
  end
  call('ZADD', code_index, now_ms, fingerprint)
end
local since = now_ms .. '000000'
local conflicts, ids = {}, {}
local count = 0
for i = 0, #KEYS - tasks_at do
  local task, msg = KEYS[tasks_at + i], ARGV[rest_at + 2 * i + 1]
  if call('EXISTS', task) == 1 then
    if repeated == '1' and msg == '' and is_staged(i) then
      msg = call('HGET', staged_prefix .. i, 'msg')
    end
    if repeated ~= '1' or redis.pcall('HGET', task, 'msg') ~= msg then
      conflicts[#conflicts + 1] = i
    end
  elseif not (offer and msg ~= '' and hand_over(offer, task, ARGV[rest_at], msg, since)) then
    if msg == '' and is_staged(i) then
      unstage(i, task)
      call('HSET', task, 'state', 'pending', 'pending_since', since)
    else
      call('HSET', task, 'msg', msg, 'state', 'pending', 'pending_since', since)
    end
    if limits ~= '' then
      name_limit(task, i + 1)
    end
    count = count + 1
    ids[count] = ARGV[rest_at + 2 * i]
  end
end
if count > 0 then
  call('LPUSH', pending, unpack(ids))
  event(events, event_cap, now_ms, 'enqueued', ids)
end
return conflicts
