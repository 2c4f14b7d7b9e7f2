-- Append to a queue's streams. Their caps bound their size; readers notice what a cap dropped.
--
-- `event(stream, cap, at, name, ids)`: these tasks made this transition at `at` (Unix ms).
-- `attempt(stream, cap, fields)`: an attempt ended; `fields` is a list of names and values.

local function event(stream, cap, at, name, ids)
  redis.call('XADD', stream, 'MAXLEN', '~', cap, '*',
    'event', name, 'at', at, 'ids', table.concat(ids, ' '))
end

local function attempt(stream, cap, fields)
  redis.call('XADD', stream, 'MAXLEN', '~', cap, '*', unpack(fields))
end
