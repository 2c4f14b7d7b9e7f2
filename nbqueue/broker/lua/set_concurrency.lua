-- Set or remove the limit of how many tasks of a queue may be active, and notify the workers.
--
-- Offers to take new tasks are deleted, as those would exceed the limit. Safe to repeat.
--
-- KEYS: settings, offers
-- ARGV: concurrency (empty: any number), wake
-- RETURNS: 1
-- USES: publish

if concurrency == '' then
  redis.call('HDEL', settings, 'concurrency')
else
  redis.call('HSET', settings, 'concurrency', concurrency)
  redis.call('DEL', offers)
end
publish(wake, 'room')
return 1
