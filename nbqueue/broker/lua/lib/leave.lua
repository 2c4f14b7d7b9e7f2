-- Take a task that does not run out of the place that its state names.
--
-- `lies_in(state, group, id)`: does it lie there, so that it can leave? `leave(state, group, id)`
-- takes it out; a group that is empty then is forgotten.
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
