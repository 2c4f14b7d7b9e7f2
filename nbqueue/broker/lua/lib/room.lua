-- Tasks of a queue are active no more: tell who may need to know.
-- USES: limits
--
-- `made_room()`: where the queue has a limit of its own, its workers look again.
-- `left(name, id)`: the task gives up its place under this limit, and the next takes it.

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
