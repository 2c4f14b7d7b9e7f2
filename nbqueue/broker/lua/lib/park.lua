-- Park tasks until something other than time lets them run, without a worker and without a retry.
--
-- A parked task is scheduled for a time so late that it is released before; if it is not, it becomes pending and is
-- checked again. `nbq:parked` in the task names what it waits for, and `wait:<what>` keeps the order. A program that
-- takes the task elsewhere leaves its entry behind, which is skipped. `waiting` holds when each `what` is to be
-- looked at again, by any worker.
--
-- `park(id, what, is_due, seconds)`: parks a task behind those that wait already, or where it waited before, for so
-- many seconds at most. Unless `is_due`, the task waits for its own time as well.
-- `first_parked(what)`: returns the task that waits longest, or nil.
-- `unpark(ids, what, parked)`: puts tasks at the front of the pending list, in this order, with `parked` as their
-- `nbq:parked` (nil: none). A task that is not due stays scheduled.
-- `look_again(what, at, notify)`: sets when `what` is to be looked at; `notify` the workers of it.
-- `own_set(name)`: returns the key of a sorted set that only nbqueue writes. A value of another type there is
-- deleted: it would make scripts fail in the middle, and block the queue.
--
-- Expects the locals `events`, `event_cap` and `now_ms`. Names of keys are made from that of the events, so that
-- scripts which end tasks need not be given keys that few tasks use.
-- USES: numbers, publish, event

local own_keys = string.sub(events, 1, -7)
local asynq_keys = 'asynq' .. string.sub(own_keys, 8)
local now = tonumber(now_ms)
local SAFETY_SECONDS = 600
local MOST_STALE = 50
local LOOK_MS = 2000
local last_place = {}
local sound_sets = {}

local function whole(number)
  return string.format('%.0f', number)
end

local function own_set(name)
  local key = own_keys .. name
  if not sound_sets[key] then
    sound_sets[key] = true
    local kind = redis.call('TYPE', key).ok
    if kind ~= 'zset' and kind ~= 'none' then
      redis.call('DEL', key)
    end
  end
  return key
end

local function is_parked(id, what)
  local found = redis.pcall('HMGET', asynq_keys .. 't:' .. id, 'state', 'nbq:parked', 'msg')
  return found[1] == 'scheduled' and found[2] == what and found[3]
end

local function look_again(what, at, notify)
  redis.call('ZADD', own_set('waiting'), whole(at), what)
  if notify then
    publish(own_keys .. 'wake', 'turn ' .. whole(at))
  end
end

local function park(id, what, is_due, seconds)
  local list, task = own_set('wait:' .. what), asynq_keys .. 't:' .. id
  if not last_place[what] then
    local last = redis.call('ZRANGE', list, -1, -1, 'WITHSCORES')
    last_place[what] = math.max(now, (number(last[2], 0, LARGEST) or 0) + 1)
  end
  if redis.call('ZADD', list, 'NX', whole(last_place[what]), id) == 1 then
    last_place[what] = last_place[what] + 1
  end
  local safe = math.floor(now / 1000) + (seconds or SAFETY_SECONDS)
  if not is_due then
    local due = number(redis.call('HGET', task, 'nbq:due'), 0, LARGEST) or 0
    safe = math.max(safe, math.ceil(due / 1000))
  end
  redis.call('ZADD', asynq_keys .. 'scheduled', safe, id)
  redis.call('HSET', task, 'state', 'scheduled', 'nbq:parked', what)
  if is_due then
    redis.call('HDEL', task, 'pending_since', 'nbq:due')
  end
end

local function first_parked(what)
  local list = own_set('wait:' .. what)
  for _ = 1, MOST_STALE do
    local id = redis.call('ZRANGE', list, 0, 0)[1]
    if not id then
      redis.call('ZREM', own_set('waiting'), what)
      return nil
    elseif is_parked(id, what) then
      return id
    end
    redis.call('ZREM', list, id)
  end
  look_again(what, now, true)
end

local function unpark(ids, what, parked)
  local line, due_first = {}, nil
  for i = #ids, 1, -1 do
    local id = ids[i]
    local task = asynq_keys .. 't:' .. id
    local due = number(redis.call('HGET', task, 'nbq:due'), 0, LARGEST) or 0
    redis.call('ZREM', own_set('wait:' .. what), id)
    redis.call('HDEL', task, 'nbq:parked')
    if parked then
      redis.call('HSET', task, 'nbq:parked', parked)
    end
    if due > now then
      redis.call('ZADD', asynq_keys .. 'scheduled', math.ceil(due / 1000), id)
      publish(own_keys .. 'wake', 'due ' .. whole(due))
    else
      redis.call('ZREM', asynq_keys .. 'scheduled', id)
      redis.call('HSET', task, 'state', 'pending', 'pending_since', now_ms .. '000000')
      line[#line + 1] = id
    end
  end
  if #line > 0 then
    redis.call('RPUSH', asynq_keys .. 'pending', unpack(line))
    local ordered = {}
    for i = #line, 1, -1 do
      ordered[#ordered + 1] = line[i]
    end
    event(events, event_cap, now_ms, 'forwarded', ordered)
  end
end
