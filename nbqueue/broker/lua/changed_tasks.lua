-- Read those of some tasks whose state changed, with the results of those that ended.
--
-- Writes nothing, so it is safe to repeat.
--
-- KEYS: *tasks
-- ARGV: most_bytes (of all results and errors in the reply), then for each task: seen (the state in
--   which the caller saw it last)
-- RETURNS: for each task that is in another state now: its position (from 0) and state (empty: it is
--   gone); of a completed one also its result, and of an archived one its result, nbq:error, nbq:failed and msg,
--   unless they are large

local pcall = redis.pcall
local LARGE = 65536
local left = tonumber(most_bytes)
local reply = {}
for i = 0, #KEYS - tasks_at do
  local task = KEYS[tasks_at + i]
  local state = pcall('HGET', task, 'state')
  if type(state) ~= 'table' and state ~= ARGV[rest_at + i] then
    local found = { i, state or '' }
    if state == 'completed' then
      local size = pcall('HSTRLEN', task, 'result')
      if size <= LARGE and size <= left then
        left = left - size
        found[3] = pcall('HGET', task, 'result') or ''
      end
    elseif state == 'archived' then
      local size = pcall('HSTRLEN', task, 'nbq:error') + pcall('HSTRLEN', task, 'msg')
      if size <= LARGE and size <= left then
        left = left - size
        local values = pcall('HMGET', task, 'result', 'nbq:error', 'nbq:failed', 'msg')
        for n = 1, 4 do
          found[n + 2] = values[n] or ''
        end
      end
    end
    reply[#reply + 1] = found
  end
end
return reply
