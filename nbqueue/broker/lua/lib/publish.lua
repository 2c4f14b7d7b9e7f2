-- Publish on a channel, if the user of the connection may.
--
-- Scripts publish after they have written, and Redis undoes nothing, so a missing right to a channel must not fail
-- the script. Messages are only hints; nothing depends on them.
--
-- `publish(channel, text)`: returns whether the message was published.

local function publish(channel, text)
  return type(redis.pcall('PUBLISH', channel, text)) == 'number'
end
