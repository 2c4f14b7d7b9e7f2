-- Select the tasks of a call that may be moved by hand, before anything is written.
--
-- `select_tasks(width, wanted, allowed, reads)`: each task has `width` arguments, the first of which is its id.
-- `wanted` is the only state that is asked for (empty: any), and `allowed` are the states from which tasks can be
-- moved. `reads` is why messages are read: nil not at all; 'compare' to refuse those that differ from the second
-- argument of their task (empty: any); 'change' to refuse those of more than LARGE bytes.
--
-- Returns the selected tasks as `{ task, id, state, group, at, limit, parked, msg, position }`, where `at` is the
-- position of their first argument, and the refused ones as position (from 0) and word, one after the other: MISSING,
-- the state of the task, MISPLACED (it is not in the list or set of its state), CHANGED or LARGE.
--
-- Expects the locals of remove_from_state.lua, `tasks_at` and `rest_at`.
-- USES: remove_from_state

local LARGE = 65536

local function select_tasks(width, wanted, allowed, reads)
  local chosen, refused, seen = {}, {}, {}
  for i = 0, #KEYS - tasks_at do
    local task, at = KEYS[tasks_at + i], rest_at + width * i
    local id = ARGV[at]
    local size = redis.pcall('HSTRLEN', task, 'msg')
    size = type(size) == 'number' and size or 0
    local found = redis.pcall('HMGET', task, 'state', 'group', 'nbq:limit', 'nbq:parked',
      (reads == 'compare' or (reads and size <= LARGE)) and 'msg' or 'state')
    local state, word = found[1], nil
    if not state or size == 0 then
      word = 'MISSING'
    elseif not allowed[state] or (wanted ~= '' and wanted ~= state) then
      word = state
    elseif not is_in_state(state, found[2], id) then
      word = 'MISPLACED'
    elseif reads == 'compare' and ARGV[at + 1] ~= '' and ARGV[at + 1] ~= found[5] then
      word = 'CHANGED'
    elseif reads == 'change' and size > LARGE then
      word = 'LARGE'
    end
    if word then
      refused[#refused + 1] = i
      refused[#refused + 1] = word
    elseif not seen[id] then
      seen[id] = true
      chosen[#chosen + 1] = { task, id, state, found[2], at, found[3], found[4], found[5], i }
    end
  end
  return chosen, refused
end
