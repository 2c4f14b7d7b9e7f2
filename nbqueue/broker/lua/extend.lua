-- Extend the leases of tasks that the caller holds. Safe to repeat.
--
-- KEYS: lease, *tasks
-- ARGV: lease_until (Unix seconds, never whole), then for each task: id, fence
-- RETURNS: the positions (from 0) of tasks that the caller no longer held
-- USES: fence

local refused = {}
for i = 0, #KEYS - tasks_at do
  local id = ARGV[rest_at + 2 * i]
  if is_held(lease, KEYS[tasks_at + i], id, ARGV[rest_at + 2 * i + 1], nil, true) then
    redis.call('ZADD', lease, 'XX', lease_until, id)
  else
    refused[#refused + 1] = i
  end
end
return refused
