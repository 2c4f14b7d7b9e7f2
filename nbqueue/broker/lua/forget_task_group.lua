-- Delete the record of a task group whose members are all gone, unless members were added meanwhile.
--
-- KEYS: record, members, index
-- ARGV: id, expected (the score that the caller has set)
-- RETURNS: 1 if it was deleted, else 0

if redis.call('ZSCORE', index, id) ~= expected then
  return 0
end
redis.call('DEL', record, members)
redis.call('ZREM', index, id)
return 1
