-- Tasks of a queue are active no more: tell who may need to know.
-- USES: limits
--
-- `made_room()`: where the queue has a limit of its own, its workers look again.
-- `left(name, id)`: the task gives up its place under this limit, and the next takes it.
-- `left_all(leaving)`: the same for many, of whatever names; the next ones come in order.

local function made_room()
  if redis.call('HEXISTS', own_keys .. 'settings', 'concurrency') == 1 then
    redis.call('PUBLISH', own_keys .. 'wake', 'room')
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
