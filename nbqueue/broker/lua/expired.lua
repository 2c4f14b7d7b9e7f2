-- Find tasks whose lease expired, so that they are recovered.
--
-- Removes leases without a task, and hashes without a message, which can never run. Leases of programs in Go, which
-- end at whole seconds, get the grace period that those programs give them.
--
-- KEYS: lease, active
-- ARGV: task_prefix, now_s, foreign_before (Unix seconds), limit
-- RETURNS: for each task: id, score, msg, nbq:lease (may be empty), attempt, lost, begun, unbegun
-- USES: check_types, fence

check('LLEN', active)
local reply = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', lease, '-inf', now_s, 'LIMIT', 0, limit)) do
  local found = redis.pcall('HMGET', task_prefix .. id, 'msg', 'state', 'nbq:lease',
    'nbq:attempt', 'nbq:lost', 'nbq:begun', 'nbq:unbegun')
  local score = redis.call('ZSCORE', lease, id)
  if not found[1] or found[2] ~= 'active' then
    release(active, lease, id)
    if found[2] and not found[1] then
      redis.call('DEL', task_prefix .. id)
    end
  elseif string.find(score, '.', 1, true) or tonumber(score) <= tonumber(foreign_before) then
    for _, value in ipairs({ id, score, found[1], found[3] or '', found[4] or '1',
      found[5] or '0', found[6] or '', found[7] or '0' }) do
      reply[#reply + 1] = value
    end
  end
end
return reply
