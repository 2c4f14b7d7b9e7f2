-- Tasks of a queue are active no more: tell who may need to know.
-- USES: limits, publish
--
-- `announce_capacity()`: where the queue has a limit of its own, its workers look again.
-- `free_and_release(name, id)`: the task gives up its place under this limit, and the next takes it.
-- `forget_waits(chosen)`: tasks as select_tasks.lua gives them, which a person took out of the way, wait for no
-- limit and no worker any more, and hold no place under a limit.
-- `free_limits(leaving)`: the same for many, of whatever names; the next ones come in order.

local function announce_capacity()
  if redis.pcall('HEXISTS', own_keys .. 'settings', 'concurrency') == 1 then
    publish(own_keys .. 'wake', 'room')
  end
end

local function free_and_release(name, id)
  if name and free_limit(name, id) then
    release_by_limit(name)
  end
end

local function free_limits(freed)
  local names, order = {}, {}
  for _, each in ipairs(freed) do
    local name = each[1]
    if free_limit(name, each[2]) and not names[name] then
      names[name] = true
      order[#order + 1] = name
    end
  end
  for _, name in ipairs(order) do
    release_by_limit(name)
  end
end

local function forget_waits(chosen)
  local freed = {}
  for _, each in ipairs(chosen) do
    local id, name, waits_for = each[2], each[6], each[7]
    if waits_for and string.sub(waits_for, 1, 5) == 'need:' then
      redis.call('ZREM', own_set('wait:' .. waits_for), id)
      redis.call('HDEL', each[1], 'nbq:parked')
    end
    if name then
      redis.call('ZREM', own_set('wait:limit:' .. name), id)
      freed[#freed + 1] = { name, id }
      if waits_for == TURN or waits_for == 'limit:' .. name then
        redis.call('HDEL', each[1], 'nbq:parked')
      end
    end
  end
  free_limits(freed)
end
