-- Free the places of tasks under their limits.
--
-- `free_and_release(name, id)`: the task leaves its place under a limit, if it has one, to the next.
-- `free_limits(tasks)`: frees places for a list of `{ name, id }`, then releases by each limit once, in order.
-- `forget_waits(chosen)`: tasks of select_tasks.lua that were moved by hand wait for no limit and no
-- requirement any more, and have no place under a limit.
-- USES: limits

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
