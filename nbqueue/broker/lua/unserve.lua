-- Forget a handler, and notify the workers. Its code stays while tasks use it. Safe to repeat.
--
-- KEYS: handlers
-- ARGV: pattern, wake
-- RETURNS: 1 if there was one, else 0
-- USES: publish

local was_there = redis.call('HDEL', handlers, pattern)
publish(wake, 'handlers')
return was_there
