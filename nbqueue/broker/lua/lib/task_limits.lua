-- Note in new tasks under which limit each of them runs.
--
-- `note_limit(task, number)`: for the task with this number, from 1.
--
-- Expects the local `limits`: the names of the limits, one in each line; one line is for all, and empty for none.

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
