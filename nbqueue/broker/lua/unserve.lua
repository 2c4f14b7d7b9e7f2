-- Forget a handler, and tell the workers. Its code stays until nobody uses it. Safe to repeat.
--
-- KEYS: handlers
-- ARGV: pattern, wake
-- RETURNS: 1 if there was one, else 0
-- USES: publish

local was_there = redis.call('HDEL', handlers, pattern)
publish(wake, 'handlers')
return was_there
