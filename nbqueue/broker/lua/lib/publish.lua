-- Publish on a channel, if the caller may.
--
-- Scripts publish after they have written, and Redis undoes nothing: to want the right to a channel must
-- not make an error of what was done. What is published is only ever a hint that others need not wait for.
--
-- `publish(channel, text)`: whether that could be done.

local function publish(channel, text)
  return type(redis.pcall('PUBLISH', channel, text)) == 'number'
end
