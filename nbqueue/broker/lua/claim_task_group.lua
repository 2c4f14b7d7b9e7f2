-- Claim the check of a task group, so that no other worker makes it until `check_ms`.
--
-- KEYS: index
-- ARGV: id, expected (the score that the caller read), check_ms
-- RETURNS: 1 if the caller has the claim, else 0

if redis.call('ZSCORE', index, id) ~= expected then
  return 0
end
redis.call('ZADD', index, check_ms, id)
return 1
