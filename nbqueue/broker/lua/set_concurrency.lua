-- Keep how many tasks of the queue may be active at a time, or lift that; tell the workers.
--
-- What they offered to take before would come on top, so their offers are void. Safe to repeat.
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
