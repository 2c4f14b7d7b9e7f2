-- Find tasks whose lease ran out, for recovery. Changes only what can never run.
--
-- A lease without a task is dropped. Leases of programs in Go, which are whole seconds, are left
-- to their `grace` first, as those programs do.
--
-- KEYS: lease, active
-- ARGV: task_prefix, now_s, foreign_before (Unix seconds), limit
-- RETURNS: for each task: id, score, msg, nbq:lease (may be empty), attempt, lost
-- USES: fence

local reply = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', lease, '-inf', now_s, 'LIMIT', 0, limit)) do
  local found = redis.call('HMGET', task_prefix .. id, 'msg', 'state', 'nbq:lease',
    'nbq:attempt', 'nbq:lost')
  local score = redis.call('ZSCORE', lease, id)
  if not found[1] or found[2] ~= 'active' then
    release(active, lease, id)
  elseif string.find(score, '.', 1, true) or tonumber(score) <= tonumber(foreign_before) then
    for _, value in ipairs({ id, score, found[1], found[3] or '', found[4] or '1',
      found[5] or '0' }) do
      reply[#reply + 1] = value
    end
  end
end
return reply
