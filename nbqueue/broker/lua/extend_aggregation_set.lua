-- Move the deadline of an aggregation set that the caller holds.
--
-- A set whose members are being put back has no holder any more. Safe to repeat.
--
-- KEYS: aggregation_sets
-- ARGV: set, deadline (Unix seconds)
-- RETURNS: 1, or 0 if the caller no longer held the set

if tonumber(redis.call('ZSCORE', aggregation_sets, set) or '0') <= 0 then
  return 0
end
redis.call('ZADD', aggregation_sets, 'XX', deadline, set)
return 1
