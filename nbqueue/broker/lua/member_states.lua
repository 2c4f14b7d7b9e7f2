-- Read the states of members of a task group, given as runs of ids.
--
-- Writes nothing. The keys of the members share the queue's slot. The ids of a run end in four digits in base 62,
-- which count up; see nbqueue/wire/ids.py.
--
-- KEYS: completed
-- ARGV: task_prefix, runs (JSON list of entries "<size> <first id>")
-- RETURNS: one letter for each member: p(ending), a(ctive), s(cheduled), r(etry), g (aggregating), c(ompleted),
--   f (archived), x (archived as cancelled), u(nknown), or . if it is not in the store

local pcall, floor = redis.pcall, math.floor
local letters = {
  pending = 'p', active = 'a', scheduled = 's', retry = 'r', aggregating = 'g', completed = 'c', archived = 'f',
}
local digits = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'
local digit, value = {}, {}
for i = 1, 62 do
  digit[i - 1] = string.sub(digits, i, i)
  value[digit[i - 1]] = i - 1
end
local found = {}

local function add(task)
  local state = pcall('HGET', task, 'state')
  local letter = '.'
  if type(state) == 'table' then
    letter = 'u'
  elseif state then
    letter = letters[state] or 'u'
    if letter == 'f' then
      local failure = pcall('HGET', task, 'nbq:error')
      if type(failure) == 'string' and string.find(failure, 'TaskCancelled', 1, true) then
        letter = 'x'
      end
    end
  end
  found[#found + 1] = letter
end

for _, run in ipairs(cjson.decode(runs)) do
  local count, first = string.match(run, '^(%d+) (.*)$')
  if count == '1' then
    add(task_prefix .. first)
  else
    local head, number = task_prefix .. string.sub(first, 1, -5), 0
    for at = -4, -1 do
      number = number * 62 + value[string.sub(first, at, at)]
    end
    for n = number, number + count - 1 do
      add(head .. digit[floor(n / 238328) % 62] .. digit[floor(n / 3844) % 62] .. digit[floor(n / 62) % 62] .. digit[n % 62])
    end
  end
end
return table.concat(found)
