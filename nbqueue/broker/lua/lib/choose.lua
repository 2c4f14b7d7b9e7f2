-- Which tasks of a call may be moved by hand? Looks at all of them before anything is written.
--
-- `choose(width, wanted, allowed)`: each task of the rest has `width` arguments, the first of which
-- is its id. `wanted` is the only state that is asked for (empty: any), `allowed` the states that
-- can be left at all. Returns the chosen ones as `{ task, id, state, group, at, limit, parked }`, `at`
-- being where their arguments begin, and the refused ones as position (from 0) and word, one after the other:
-- MISSING, the state that is in the way, MISPLACED (it does not lie where its state says), or
-- CHANGED (the message is not the second of at least three arguments; empty: any will do).
--
-- Expects the locals of leave.lua, `tasks_at` and `rest_at`.

local function choose(width, wanted, allowed)
  local chosen, refused, seen = {}, {}, {}
  for i = 0, #KEYS - tasks_at do
    local task, at = KEYS[tasks_at + i], rest_at + width * i
    local id = ARGV[at]
    local found = redis.pcall('HMGET', task, 'state', 'msg', 'group', 'nbq:limit',
      'nbq:parked')
    local state, word = found[1], nil
    if not state or not found[2] then
      word = 'MISSING'
    elseif not allowed[state] or (wanted ~= '' and wanted ~= state) then
      word = state
    elseif not lies_in(state, found[3], id) then
      word = 'MISPLACED'
    elseif width > 2 and ARGV[at + 1] ~= '' and ARGV[at + 1] ~= found[2] then
      word = 'CHANGED'
    end
    if word then
      refused[#refused + 1] = i
      refused[#refused + 1] = word
    elseif not seen[id] then
      seen[id] = true
      chosen[#chosen + 1] = { task, id, state, found[3], at, found[4], found[5] }
    end
  end
  return chosen, refused
end
