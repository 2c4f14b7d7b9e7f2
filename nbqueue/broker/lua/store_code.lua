-- Store the code of a function under its fingerprint, for all tasks that call it.
--
-- The index holds when the code was last asked for; the janitor deletes code that no task uses. Safe to repeat: the
-- fingerprint is a digest of the code.
--
-- KEYS: code, code_index
-- ARGV: now_ms, fingerprint, blob
-- RETURNS: 1

redis.call('ZADD', code_index, now_ms, fingerprint)
redis.call('SET', code, blob)
return 1
