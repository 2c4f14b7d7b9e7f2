-- Give active tasks without a lease an expired one, so that they are recovered.
--
-- Every program writes the lease in the step that makes a task active. A task without one has no holder: it was
-- left by a program that died between two steps, or by hand. The lease ends at a whole second, as Asynq's do. Looks
-- at the list from `start` to `stop`. Safe to repeat.
--
-- KEYS: active, lease
-- ARGV: start, stop, lease_until (Unix seconds, whole)
-- RETURNS: how many ids were looked at, and how many got a lease
-- USES: check_types

check('ZCARD', lease)
local ids = redis.call('LRANGE', active, start, stop)
local adopted = 0
for _, id in ipairs(ids) do
  adopted = adopted + redis.call('ZADD', lease, 'NX', lease_until, id)
end
return { #ids, adopted }
