-- Pieces of results that lie beside the result of their task: see nbqueue/calls/detached.py.
--
-- `forget_pieces(task, result)`: delete those of all results but `result`, which is to be the task's.
-- `drop_refused_pieces(task, result)`: the pieces of `result` were written into a task that is not ours; delete
-- them unless it has this very result. `forget_result(task)`: the task is to run again; delete the
-- pieces of its result, and the head, which is of no use without them. A small result stays.

local RESULT_PIECES = 'nbq:result:'
local HEAD = 71

-- How the fields of its pieces begin, if it has any: 6 bytes of what it is, then 23 of others.
local function pieces_of(result)
  if type(result) == 'string' and #result == HEAD and string.sub(result, 1, 6) == '\0nbr\1\2' then
    local digest = string.gsub(string.sub(result, 40, 47), '.', function(character)
      return string.format('%02x', string.byte(character))
    end)
    return RESULT_PIECES .. digest .. ':'
  end
end

local function delete_pieces(task, prefix, but)
  for _, name in ipairs(redis.call('HKEYS', task)) do
    if string.sub(name, 1, #prefix) == prefix and not (but and string.sub(name, 1, #but) == but) then
      redis.call('HDEL', task, name)
    end
  end
end

local function forget_pieces(task, result)
  delete_pieces(task, RESULT_PIECES, pieces_of(result))
end

local function drop_refused_pieces(task, result)
  local prefix = pieces_of(result)
  if redis.call('TYPE', task).ok == 'hash' and prefix
    and prefix ~= pieces_of(redis.call('HGET', task, 'result')) then
    delete_pieces(task, prefix)
  end
end

local function forget_result(task)
  forget_pieces(task, '')
  -- Its length first: what is long is no head, and Lua would read all of it.
  if redis.call('HSTRLEN', task, 'result') == HEAD
    and pieces_of(redis.call('HGET', task, 'result')) then
    redis.call('HDEL', task, 'result')
  end
end
