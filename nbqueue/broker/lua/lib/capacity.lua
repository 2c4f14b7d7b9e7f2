-- Announce that a queue has fewer active tasks.
--
-- `announce_capacity()`: workers look again at a queue that limits how many of its tasks are active.
--
-- Expects the local `events`, a key of the queue.
-- USES: publish

local function announce_capacity()
  local prefix = string.sub(events, 1, -7)
  if redis.pcall('HEXISTS', prefix .. 'settings', 'concurrency') == 1 then
    publish(prefix .. 'wake', 'room')
  end
end
