-- Unique locks: a string in the slot of the queue that holds the id of a task.
--
-- `lock_of(task, id)`: returns the key of the lock that the task names and holds, or nil. Programs in Go name it only
-- in the message if the task is in an aggregation group. `release_lock(task, id)`: releases that lock.
-- `hand_on_lock(lock)`: gives a free lock to the task that waits longest. `recheck_lock(lock)`: does so if the lock
-- is free; locks expire, and programs in Go release them without a notice. `names_lock(task, lock)`: returns the
-- state of the task, and its group, if it names this lock.
-- `extend_lock(task, id, due_ms, now_ms)`: keeps the lock until the task is due and then for the time that it was to
-- be held, or for what is left of that if a program in Go took it. An expired lock is taken again if it is free.
-- USES: numbers, park

local function lock_in(msg, prefix)
  local at = string.find(msg, prefix, 1, true)
  while at and at > 3 do
    local tag, high, low = string.byte(msg, at - 3, at - 1)
    local length = nil
    if high == 82 and low < 128 then -- field 10 of the message, text
      length = low
    elseif tag == 82 and high >= 128 and low < 128 then
      length = high - 128 + 128 * low
    end
    if length then
      return string.sub(msg, at, at + length - 1)
    end
    at = string.find(msg, prefix, at + 1, true)
  end
end

local function named_lock(task, id)
  local found = redis.pcall('HMGET', task, 'unique_key', 'msg')
  -- Only keys in the slot of the queue, since any program may have written the name.
  local prefix = string.sub(task, 1, #task - #id - 2) .. 'unique:'
  local lock = found[1]
  if (not lock or lock == '') and found[2] then
    lock = lock_in(found[2], prefix)
  end
  if lock and string.sub(lock, 1, #prefix) == prefix then
    return lock
  end
end

local function lock_of(task, id)
  local lock = named_lock(task, id)
  if lock and redis.pcall('GET', lock) == id then
    return lock
  end
end

local function hand_on_lock(lock)
  local what = 'lock:' .. lock
  if redis.call('EXISTS', own_set('wait:' .. what)) == 0 then
    redis.call('ZREM', own_set('waiting'), what)
    return 0
  end
  local id = first_parked(what)
  if not id then
    return 0
  end
  local found = redis.call('HMGET', asynq_keys .. 't:' .. id, 'nbq:unique', 'nbq:due')
  local wait = math.max((number(found[2], 0, LARGEST) or 0) - now, 0)
  redis.call('SET', lock, id, 'PX', whole(wait + (number(found[1], 1, LARGEST) or 1000)))
  unpark({ id }, what)
  if redis.call('EXISTS', own_set('wait:' .. what)) == 1 then
    look_again(what, now + LOOK_MS)
  else
    redis.call('ZREM', own_set('waiting'), what)
  end
  return 1
end

local function release_lock(task, id)
  local lock = lock_of(task, id)
  if lock then
    redis.call('DEL', lock)
    hand_on_lock(lock)
  end
end

local function names_lock(task, lock)
  local found = redis.pcall('HMGET', task, 'state', 'msg', 'unique_key', 'group')
  if found[1] and found[2]
    and (found[3] == lock or string.find(found[2], lock, 1, true)) then
    return found[1], found[4]
  end
end

local function recheck_lock(lock)
  local holder = redis.pcall('GET', lock)
  if type(holder) == 'string' and names_lock(asynq_keys .. 't:' .. holder, lock) then
    local left = redis.call('PTTL', lock)
    look_again('lock:' .. lock, now + math.min(LOOK_MS, math.max(left, 0) + 1))
    return 0
  end
  return hand_on_lock(lock)
end

local function extend_lock(task, id, due_ms, now_ms)
  local lock = named_lock(task, id)
  if not lock then
    return
  end
  local holder = redis.pcall('GET', lock)
  local ttl = number(redis.pcall('HGET', task, 'nbq:unique'), 1, LARGEST)
  local wait = math.max(tonumber(due_ms) - tonumber(now_ms), 0)
  if holder == id then
    ttl = ttl or redis.call('PTTL', lock)
    if ttl > 0 then
      redis.call('PEXPIRE', lock, string.format('%.0f', wait + ttl))
    end
  elseif not holder and ttl then
    redis.call('SET', lock, id, 'PX', string.format('%.0f', wait + ttl))
  end
end
