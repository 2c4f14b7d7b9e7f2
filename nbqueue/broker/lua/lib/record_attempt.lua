-- Append to a queue's streams: of its events, see event.lua, and of its attempts.
-- USES: event
--
-- `attempt(stream, cap, fields)`: an attempt ended; `fields` is a list of names and values.

local function record_attempt(stream, cap, fields)
  redis.call('XADD', stream, 'MAXLEN', '~', cap, '*', unpack(fields))
end
