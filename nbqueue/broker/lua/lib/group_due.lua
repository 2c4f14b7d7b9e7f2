-- The due time of an aggregation group, when its members are to become one task.
--
-- `group_due_at(group_set)`: returns how many members it has, and when it is due (Unix ms): now if it has
-- `max_size` members, else once the newest is `grace_ms` old or the oldest `max_delay_ms`. Zero is no limit. The set
-- holds whole seconds, rounded down, and tasks of nbqueue the exact time. Of the members of one second, only
-- SAME_SECOND are looked at; with more, the time may be wrong by a part of that second.
--
-- Expects the locals `task_prefix`, `max_size`, `max_delay_ms` and `grace_ms`.
-- USES: numbers

local SAME_SECOND = 32

local function added_at(id, second)
  local at = redis.pcall('HGET', task_prefix .. id, 'nbq:added')
  at = number(at, 0, LARGEST)
  -- A program in Go that moved the task since then wrote only the second.
  if at and math.floor(at / 1000) == second then
    return at
  end
  return second * 1000
end

local function edge_added_at(command, group_set, is_later)
  local found = redis.call(command, group_set, 0, SAME_SECOND - 1, 'WITHSCORES')
  local second, edge_at = tonumber(found[2]), nil
  for i = 1, #found, 2 do
    if tonumber(found[i + 1]) ~= second then
      break
    end
    local at = added_at(found[i], second)
    if not edge_at or is_later(at, edge_at) then
      edge_at = at
    end
  end
  return edge_at
end

local function group_due_at(group_set)
  local size, most, delay = redis.call('ZCARD', group_set), tonumber(max_size),
    tonumber(max_delay_ms)
  if size == 0 or (most > 0 and size >= most) then
    return size, 0
  end
  local at = tonumber(grace_ms)
    + edge_added_at('ZREVRANGE', group_set, function(a, b) return a > b end)
  if delay > 0 then
    at = math.min(at, delay + edge_added_at('ZRANGE', group_set, function(a, b) return a < b end))
  end
  return size, at
end
