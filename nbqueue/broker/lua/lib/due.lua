-- When a scheduled or retried task is due. The sets hold whole seconds, rounded up, the tasks the
-- exact time.
--
-- `exact_ms(id, score)`: the exact time (Unix ms) of a task with this score. A program in Go writes
-- no other time than the score; what a task holds from before that is not used.
--
-- Expects the local `task_prefix`.

local function exact_ms(id, score)
  local at = redis.pcall('HGET', task_prefix .. id, 'nbq:due')
  at = type(at) == 'string' and tonumber(at)
  if at and math.ceil(at / 1000) == score then
    return at
  end
  return score * 1000
end
