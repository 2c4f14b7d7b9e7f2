-- Read a slice of the tasks that lie in a list or a set: the newest, or the highest scores, first.
--
-- Writes nothing, so it is safe to repeat. Who reads slice after slice meets each task that lies
-- there all the while: what comes in pushes others back, and these are met twice.
--
-- KEYS: place, lease
-- ARGV: task_prefix, start, limit, fields, types, error_part, want_payload, want_result, want_error
-- RETURNS: how many ids the slice had, then for each task that is wanted what row.lua says
-- USES: row

local kind, stop = redis.call('TYPE', place).ok, start + limit - 1
local reply, count = { 0 }, 0
if kind == 'list' then
  for _, id in ipairs(redis.call('LRANGE', place, start, stop)) do
    count = count + 1
    row(reply, id)
  end
elseif kind == 'zset' then
  local found = redis.call('ZREVRANGE', place, start, stop, 'WITHSCORES')
  count = #found / 2
  for i = 1, #found, 2 do
    row(reply, found[i], found[i + 1])
  end
end
reply[1] = count
return reply
