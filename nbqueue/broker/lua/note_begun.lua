-- Note that attempts have begun: if their worker dies, they may be the reason.
--
-- Only for tasks that the caller holds. The number of the attempt is noted, so later attempts are not affected.
-- Safe to repeat.
--
-- KEYS: lease, *tasks
-- ARGV: then for each task: id, fence, attempt
-- RETURNS: how many tasks the caller held
-- USES: fence

local noted = 0
for i = 0, #KEYS - tasks_at do
  local task = KEYS[tasks_at + i]
  if is_held(lease, task, ARGV[rest_at + 3 * i], ARGV[rest_at + 3 * i + 1], nil, true) then
    redis.call('HSET', task, 'nbq:begun', ARGV[rest_at + 3 * i + 2])
    noted = noted + 1
  end
end
return noted
