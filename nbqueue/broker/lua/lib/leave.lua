-- Take a task that does not run out of the place that its state names.
--
-- `lies_in(state, group, id)`: does it lie there, so that it can leave? `leave(state, group, id)`
-- takes it out; a group that is empty then is forgotten. `leave_all(chosen)` does so for many, as
-- choose.lua gives them: it goes through the line once, and not once for each.
--
-- A long line is not searched: that would keep the server busy for too long. `locate(chosen,
-- refused, argument)` looks for pending tasks near where the caller saw them: the argument that comes
-- so many places after the id of each is its distance from the end of the line, 1 for the oldest task;
-- 0 searches the whole line for it, and an empty one is unknown. Distances must not fall from task to
-- task. Returns the tasks that can leave; the others are refused as FAR.
--
-- Expects the locals `pending`, `scheduled`, `retry`, `archived`, `completed`, `groups` and
-- `group_prefix`. A short line is not searched for what says that it is pending. A search of it begins
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
local SHORT_LINE = 5000
local SLACK = 500
local distances, line_length = nil, 0

-- Reads the parts of the line in which these tasks should be, and notes where those wanted are.
local function look_near(asked, wanted)
  local read_to = 0
  for _, distance in ipairs(asked) do
    if distance + SLACK / 2 > read_to then
      local first, last = math.max(distance - SLACK, read_to + 1), distance + SLACK
      local part = redis.call('LRANGE', pending, -last, -first)
      for i = #part, 1, -1 do
        if wanted[part[i]] and not distances[part[i]] then
          distances[part[i]] = first + #part - i
        end
      end
      read_to = last
    end
  end
end

local function locate(chosen, refused, argument)
  line_length = redis.call('LLEN', pending)
  if line_length <= SHORT_LINE then
    return chosen
  end
  distances = {}
  local asked, wanted, found = {}, {}, {}
  for _, each in ipairs(chosen) do
    local distance = each[3] == 'pending' and tonumber(ARGV[each[5] + argument])
    if distance and distance > 0 then
      asked[#asked + 1] = distance
      wanted[each[2]] = true
    elseif distance then
      distances[each[2]] = 0
    end
  end
  look_near(asked, wanted)
  for _, each in ipairs(chosen) do
    if each[3] ~= 'pending' or distances[each[2]] then
      found[#found + 1] = each
    else
      refused[#refused + 1] = each[9]
      refused[#refused + 1] = 'FAR'
    end
  end
  return found
end

-- The following mark ids where they lie, and take the mark out: no other id can be it, as none lies
-- there after.
local function leave_at_distances(ids)
  local number, nearest, farthest = 0, line_length, 0
  for _, id in ipairs(ids) do
    local distance = distances[id]
    if distance > 0 then
      -- Counted from the nearer end, as Redis goes from that which is named to the place.
      redis.call('LSET', pending,
        2 * distance <= line_length and -distance or line_length - distance, GONE)
      number = number + 1
      nearest, farthest = math.min(nearest, distance), math.max(farthest, distance)
    end
  end
  if number > 0 then
    redis.call('LREM', pending, farthest <= line_length - nearest and -number or number, GONE)
  end
  for _, id in ipairs(ids) do
    if distances[id] == 0 then
      redis.call('LREM', pending, -1, id)
    end
  end
end

local function leave_line(ids)
  local wanted, number, start = {}, #ids, 1
  for _, id in ipairs(ids) do
    wanted[id] = true
  end
  while number > 0 do
    local part = redis.call('LRANGE', pending, -start - AT_ONCE + 1, -start)
    for i = #part, 1, -1 do
      if wanted[part[i]] then
        wanted[part[i]] = nil
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
  local ids = {}
  for _, each in ipairs(chosen) do
    if each[3] == 'pending' then
      ids[#ids + 1] = each[2]
    else
      leave(each[3], each[4], each[2])
    end
  end
  if distances then
    leave_at_distances(ids)
  elseif #ids > FEW then
    leave_line(ids)
  else
    for _, id in ipairs(ids) do
      redis.call('LREM', pending, -1, id)
    end
  end
end
