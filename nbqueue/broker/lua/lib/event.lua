-- Append to a queue's stream of events. Its cap bounds its size; readers notice what it dropped.
--
-- `event(stream, cap, at, name, ids)`: these tasks made this transition at `at` (Unix ms). Ids are
-- joined by spaces; one that contains a space, as programs in Go may make them, has an entry alone.

local function event(stream, cap, at, name, ids)
  if string.find(table.concat(ids), ' ', 1, true) then
    local others = {}
    for _, id in ipairs(ids) do
      if string.find(id, ' ', 1, true) then
        redis.call('XADD', stream, 'MAXLEN', '~', cap, '*', 'event', name, 'at', at, 'id', id)
      else
        others[#others + 1] = id
      end
    end
    if #others == 0 then
      return
    end
    ids = others
  end
  redis.call('XADD', stream, 'MAXLEN', '~', cap, '*',
    'event', name, 'at', at, 'ids', table.concat(ids, ' '))
end
