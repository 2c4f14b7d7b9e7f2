-- Note in new tasks which limit each of them has.
--
-- `note_limit(task, number)`: of the task with this number, from 1.
--
-- Expects the local `limits`: their names, one a line; one line holds for all, and empty is none.

local limit_names = {}
for name in string.gmatch(limits, '[^\n]+') do
  limit_names[#limit_names + 1] = name
end

local function note_limit(task, number)
  local name = #limit_names == 1 and limit_names[1] or limit_names[number]
  if name then
    redis.call('HSET', task, 'nbq:limit', name)
  end
end
