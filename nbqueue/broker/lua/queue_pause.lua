-- Pause a queue: workers finish its tasks that they have, and fetch no more. Safe to repeat.
--
-- KEYS: paused
-- ARGV: now_s
-- RETURNS: 1, or 0 if it was paused

return redis.call('SET', paused, now_s, 'NX') and 1 or 0
