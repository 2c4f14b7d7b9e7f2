-- Keep the code of a function, under its fingerprint, for all tasks that use it.
--
-- Safe to repeat: the fingerprint is a digest of the code. The index holds when the code was last
-- asked for, by which the janitor finds what no task uses any more.
--
-- KEYS: code, code_index
-- ARGV: now_ms, fingerprint, blob
-- RETURNS: 1

redis.call('ZADD', code_index, now_ms, fingerprint)
redis.call('SET', code, blob)
return 1
