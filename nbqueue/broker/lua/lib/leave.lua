-- Take a task that does not run out of the place that its state names.
--
-- `lies_in(state, group, id)`: does it lie there, so that it can leave? `leave(state, group, id)`
-- takes it out; a group that is empty then is forgotten. `leave_all(chosen)` does so for many, as
-- choose.lua gives them: it goes through the line once, and not once for each.
--
-- Expects the locals `pending`, `scheduled`, `retry`, `archived`, `completed`, `groups` and
-- `group_prefix`. The line is not searched for what says that it is pending. A search of it begins
-- with the oldest, because who deals with many of them takes those first.

local places = { scheduled = scheduled, retry = retry, archived = archived, completed = completed }

local function lies_in(state, group, id)
  if state == 'pending' then
    return true
  elseif state == 'aggregating' then
    return group and group ~= ''
      and type(redis.pcall('ZSCORE', group_prefix .. group, id)) == 'string' or false
  end
  return places[state] and redis.call('ZSCORE', places[state], id) and true or false
end

local function leave(state, group, id)
  if state == 'pending' then
    redis.call('LREM', pending, -1, id)
  elseif state == 'aggregating' then
    redis.call('ZREM', group_prefix .. group, id)
    if redis.call('EXISTS', group_prefix .. group) == 0 then
      redis.call('SREM', groups, group)
    end
  else
    redis.call('ZREM', places[state], id)
  end
end

local FEW = 8
local AT_ONCE = 1000
local GONE = 'nbqueue:gone'

-- Marks them where they lie, and takes the mark out: no other id can be it, as none lies there after.
local function leave_line(ids, number)
  local start = 1
  while number > 0 do
    local part = redis.call('LRANGE', pending, -start - AT_ONCE + 1, -start)
    for i = #part, 1, -1 do
      if ids[part[i]] then
        ids[part[i]] = nil
        number = number - 1
        redis.call('LSET', pending, i - #part - start, GONE)
      end
    end
    if #part < AT_ONCE then
      break
    end
    start = start + AT_ONCE
  end
  redis.call('LREM', pending, 0, GONE)
end

local function leave_all(chosen)
  local ids, number = {}, 0
  for _, each in ipairs(chosen) do
    if each[3] == 'pending' then
      ids[each[2]] = true
      number = number + 1
    end
  end
  local in_line = number > FEW
  if in_line then
    leave_line(ids, number)
  end
  for _, each in ipairs(chosen) do
    if not in_line or each[3] ~= 'pending' then
      leave(each[3], each[4], each[2])
    end
  end
end
