-- Exact due times of scheduled and retried tasks.
--
-- The sets hold whole seconds: nbqueue rounds up and writes the exact time into the task; programs in Go cut the
-- fraction off.
--
-- `exact_ms(id, score)`: returns the exact time (Unix ms). A task without an exact time that fits its score is due
-- at the end of that second, so that it never starts early.
--
-- Expects the local `task_prefix`.

local function exact_ms(id, score)
  local at = redis.pcall('HGET', task_prefix .. id, 'nbq:due')
  at = type(at) == 'string' and tonumber(at)
  if at and math.ceil(at / 1000) == score then
    return at
  end
  return (score + 1) * 1000
end
