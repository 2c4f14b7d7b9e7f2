-- Tasks of a queue are active no more: tell who may need to know.
-- USES: limits, publish
--
-- `made_room()`: where the queue has a limit of its own, its workers look again.
-- `left(name, id)`: the task gives up its place under this limit, and the next takes it.
-- `gave_way(chosen)`: tasks as choose.lua gives them, which a person took out of the way, wait for no
-- limit and no worker any more, and hold no place under a limit.
-- `left_all(leaving)`: the same for many, of whatever names; the next ones come in order.

local function made_room()
  if redis.pcall('HEXISTS', own_keys .. 'settings', 'concurrency') == 1 then
    publish(own_keys .. 'wake', 'room')
  end
end

local function left(name, id)
  if name and leave_limit(name, id) then
    serve_limit(name)
  end
end

local function left_all(leaving)
  local names, order = {}, {}
  for _, each in ipairs(leaving) do
    local name = each[1]
    if leave_limit(name, each[2]) and not names[name] then
      names[name] = true
      order[#order + 1] = name
    end
  end
  for _, name in ipairs(order) do
    serve_limit(name)
  end
end

local function gave_way(chosen)
  local leaving = {}
  for _, each in ipairs(chosen) do
    local id, name, waits_for = each[2], each[6], each[7]
    if waits_for and string.sub(waits_for, 1, 5) == 'need:' then
      redis.call('ZREM', own_set('wait:' .. waits_for), id)
      redis.call('HDEL', each[1], 'nbq:parked')
    end
    if name then
      redis.call('ZREM', own_set('wait:limit:' .. name), id)
      leaving[#leaving + 1] = { name, id }
      if waits_for == TURN or waits_for == 'limit:' .. name then
        redis.call('HDEL', each[1], 'nbq:parked')
      end
    end
  end
  left_all(leaving)
end
