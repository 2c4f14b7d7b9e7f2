-- Read a slice of the tasks in a list or set: the newest, or those with the highest scores, first.
--
-- Writes nothing, so it is safe to repeat. A reader of all slices meets each task that stays there; new tasks push
-- others back, so some are met twice.
--
-- KEYS: place, lease
-- ARGV: task_prefix, start, limit, fields, types, error_part, want_payload, want_result, want_error
-- RETURNS: the table of task_row.lua, with how many ids the slice had
-- USES: task_row

local kind, stop = redis.call('TYPE', place).ok, start + limit - 1
local count = 0
if kind == 'list' then
  local found = redis.call('LRANGE', place, start, stop)
  count = #found
  for i = 1, count do
    add_row(found[i])
  end
elseif kind == 'zset' then
  local found = redis.call('ZREVRANGE', place, start, stop, 'WITHSCORES')
  count = #found / 2
  for i = 1, #found, 2 do
    add_row(found[i], found[i + 1])
  end
elseif kind ~= 'none' then
  return redis.error_reply('WRONGTYPE ' .. place .. ' is a ' .. kind)
end
return table_of_rows(count)
