-- Remove a task that does not run from the list or set of its state.
--
-- `check_states()`: fails if one of the keys, but completed, is of another type.
-- `is_in_state(state, group, id)`: returns whether the task is in the list or set of that state. The pending list is
-- not searched. `remove_from_state(state, group, id)`: removes it; a group that becomes empty is forgotten.
-- `remove_all_from_state(chosen)`: removes tasks of select_tasks.lua, with one pass through the pending list.
--
-- A long pending list is not searched, as that would block the server for too long. `locate(chosen, refused,
-- argument)`: looks for pending tasks near where the caller saw them. The argument at that offset from the id of a
-- task is its distance from the end of the list, 1 for the oldest task; 0 searches the whole list, and an empty one
-- is unknown. Distances must not decrease from task to task. Returns the tasks that can be removed, and refuses the
-- others as FAR.
--
-- Expects the locals `pending`, `scheduled`, `retry`, `archived`, `completed`, `groups`, `events` and
-- `group_prefix`. Searches begin with the oldest task, as callers mostly take the oldest ones first.

local function check_states()
  check('LLEN', pending)
  check('ZCARD', scheduled, retry, archived)
  check('SCARD', groups)
  check('XLEN', events)
end

local places = { scheduled = scheduled, retry = retry, archived = archived, completed = completed }

local function is_in_state(state, group, id)
  if state == 'pending' then
    return true
  elseif state == 'aggregating' then
    return group and group ~= ''
      and type(redis.pcall('ZSCORE', group_prefix .. group, id)) == 'string' or false
  end
  return places[state] and redis.call('ZSCORE', places[state], id) and true or false
end

local function remove_from_state(state, group, id)
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
local NEAR, SLACK = 10, 500
local distances, line_length = nil, 0

-- Reads the pending list between these distances, and notes where the wanted tasks are.
local function look_between(first, last, wanted)
  local part = redis.call('LRANGE', pending, -last, -first)
  local size = #part
  for i = size, 1, -1 do
    local id = part[i]
    if wanted[id] then
      wanted[id] = nil
      distances[id] = first + size - i
    end
  end
end

-- Reads around each of these distances, less by what all tasks have moved.
local function look_near(asked, moved, wanted)
  local i, read_to = 1, 0
  while i <= #asked do
    local first = math.max(asked[i] - moved - NEAR, read_to + 1)
    read_to = asked[i] - moved + NEAR
    -- Distances that are close together are read at once.
    while i < #asked and asked[i + 1] - moved - NEAR <= read_to + 1 do
      i = i + 1
      read_to = asked[i] - moved + NEAR
    end
    if read_to >= first then
      look_between(first, read_to, wanted)
    end
    i = i + 1
  end
end

-- Returns how far the first task that is not found yet moved towards the end: a worker that fetches moves all
-- tasks by as much.
local function how_far(ids, asked, wanted)
  local tries = 0
  for i, id in ipairs(ids) do
    if wanted[id] and tries < 3 then
      tries = tries + 1
      look_between(math.max(asked[i] - SLACK, 1), asked[i] + SLACK, wanted)
      if distances[id] then
        return asked[i] - distances[id]
      end
    end
  end
end

local function locate(chosen, refused, argument)
  line_length = redis.call('LLEN', pending)
  if line_length <= SHORT_LINE then
    return chosen
  end
  distances = {}
  local ids, asked, wanted, found = {}, {}, {}, {}
  for _, each in ipairs(chosen) do
    local distance = each[3] == 'pending' and tonumber(ARGV[each[5] + argument])
    if distance and distance > 0 then
      ids[#ids + 1], asked[#asked + 1] = each[2], distance
      wanted[each[2]] = true
    elseif distance then
      distances[each[2]] = 0
    end
  end
  look_near(asked, 0, wanted)
  local moved = next(wanted) and how_far(ids, asked, wanted)
  if moved and next(wanted) then
    look_near(asked, moved, wanted)
  end
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

-- Removes the tasks with one cut, if they are most of the list between them and its nearer end: the others
-- there are put back in order.
local function cut_from_pending(ids, nearest, farthest)
  local is_old = farthest <= line_length - nearest
  local size = is_old and farthest or line_length - nearest + 1
  if size > 2 * #ids then
    return false
  end
  local others, part = {}, redis.call('LRANGE', pending, is_old and -size or 0, is_old and -1 or size - 1)
  local first, last, step = 1, size, 1
  if not is_old then
    first, last, step = size, 1, -1
  end
  for i = first, last, step do
    if not distances[part[i]] then
      others[#others + 1] = part[i]
    end
  end
  if is_old then
    redis.call('LTRIM', pending, 0, -size - 1)
  else
    redis.call('LTRIM', pending, size, -1)
  end
  if #others > 0 then
    redis.call(is_old and 'RPUSH' or 'LPUSH', pending, unpack(others))
  end
  return true
end

-- The following replace ids with a mark and then remove all marks; none stays in the list, so no id can
-- equal the mark.
local function remove_at_distances(ids)
  local near, nearest, farthest = {}, line_length, 0
  for _, id in ipairs(ids) do
    local distance = distances[id]
    if distance > 0 then
      near[#near + 1] = id
      nearest, farthest = math.min(nearest, distance), math.max(farthest, distance)
    end
  end
  if #near > 0 and not cut_from_pending(near, nearest, farthest) then
    for _, id in ipairs(near) do
      -- Counted from the nearer end, as Redis goes from that which is named to the place.
      local distance = distances[id]
      redis.call('LSET', pending,
        2 * distance <= line_length and -distance or line_length - distance, GONE)
    end
    redis.call('LREM', pending, farthest <= line_length - nearest and -#near or #near, GONE)
  end
  for _, id in ipairs(ids) do
    if distances[id] == 0 then
      redis.call('LREM', pending, -1, id)
    end
  end
end

local function remove_from_pending(ids)
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

local function remove_all_from_state(chosen)
  local ids = {}
  for _, each in ipairs(chosen) do
    if each[3] == 'pending' then
      ids[#ids + 1] = each[2]
    else
      remove_from_state(each[3], each[4], each[2])
    end
  end
  if distances then
    remove_at_distances(ids)
  elseif #ids > FEW then
    remove_from_pending(ids)
  else
    for _, id in ipairs(ids) do
      redis.call('LREM', pending, -1, id)
    end
  end
end
