-- Store a handler for messages whose type matches a pattern, and notify the workers.
--
-- It replaces an earlier handler of that pattern. Its code is stored as that of calls. Safe to repeat.
--
-- KEYS: handlers, code, code_index
-- ARGV: pattern, envelope (signed), fingerprint, blob, now_ms, wake
-- RETURNS: 1 if the pattern is new, else 0
-- USES: check_types, publish

check('HLEN', handlers)
check('ZCARD', code_index)
redis.call('ZADD', code_index, now_ms, fingerprint)
redis.call('SET', code, blob)
local is_new = redis.call('HSET', handlers, pattern, envelope)
publish(wake, 'handlers')
return is_new
