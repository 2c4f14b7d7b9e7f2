-- Give active tasks that have no lease one that has run out, so that they are recovered.
--
-- Every program that fetches gives a lease in the same step. So who lacks one is in nobody's hands,
-- and was left by a program that died between two steps, or by a hand. The lease is one of Asynq's,
-- in whole seconds. Looks at the part of the list from `start` to `stop`. Safe to repeat.
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
