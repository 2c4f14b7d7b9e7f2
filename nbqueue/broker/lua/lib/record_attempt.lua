-- Append a finished attempt to the stream of attempts.
--
-- `record_attempt(stream, cap, fields)`: `fields` is a list of names and values.
-- USES: event

local function record_attempt(stream, cap, fields)
  redis.call('XADD', stream, 'MAXLEN', '~', cap, '*', unpack(fields))
end
