-- Keep how many tasks of the queue may be active at a time, or lift that; tell the workers.
--
-- Safe to repeat.
--
-- KEYS: settings
-- ARGV: concurrency (empty: any number), wake
-- RETURNS: 1

if concurrency == '' then
  redis.call('HDEL', settings, 'concurrency')
else
  redis.call('HSET', settings, 'concurrency', concurrency)
end
redis.call('PUBLISH', wake, 'room')
return 1
