-- Forget code that no task uses.
--
-- Code that was asked for since `seen_at`, when the caller began to look for tasks that use it, is kept.
--
-- KEYS: code, code_index
-- ARGV: fingerprint, seen_at (the score in the index when the search began)
-- RETURNS: 1 if forgotten, else 0

local last = redis.call('ZSCORE', code_index, fingerprint)
if last ~= seen_at then
  return 0
end
redis.call('DEL', code)
redis.call('ZREM', code_index, fingerprint)
return 1
