-- Resume a paused queue, and notify idle workers. Safe to repeat.
--
-- KEYS: paused
-- ARGV: wake
-- RETURNS: 1, or 0 if it was not paused
-- USES: publish

local was_paused = redis.call('DEL', paused)
publish(wake, 'unpaused')
return was_paused
