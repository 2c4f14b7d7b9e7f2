-- Delete a name that leads to a task group which is about to be deleted.
--
-- KEYS: name_key
-- ARGV: id
-- RETURNS: 1 if the name led there, else 0

local found = redis.call('GET', name_key)
if not found or string.match(found, ' (.*)$') ~= id then
  return 0
end
return redis.call('DEL', name_key)
