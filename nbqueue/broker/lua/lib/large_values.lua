-- Pieces of large results, stored apart from the head of their result: see nbqueue/calls/detached.py.
--
-- `forget_pieces(task, result)`: deletes the pieces of all results but `result`, the new one of the task.
-- `drop_refused_pieces(task, result)`: deletes the pieces of `result` from a task that the caller did not hold when
-- it wrote them, unless the task has that very result. `forget_result(task)`: the task is to run again; deletes the
-- pieces of its result with the head, which is of no use without them, and its preview. A small result stays.

local RESULT_PIECES = 'nbq:result:'
local HEAD = 71

-- Returns the prefix of the fields of a result's pieces, which ends with 8 bytes of its digest; nil if it has none.
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
  redis.call('HDEL', task, 'nbq:preview')
  -- Checks the length first: a long value is no head, and Lua would read all of it.
  if redis.call('HSTRLEN', task, 'result') == HEAD
    and pieces_of(redis.call('HGET', task, 'result')) then
    redis.call('HDEL', task, 'result')
  end
end
