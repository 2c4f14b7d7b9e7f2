-- Delete tasks with their hashes and unique locks.
--
-- `delete_tasks(ids, state)`: deletes those of the tasks that are in this state, and returns their ids.
-- Any program may have left an id in a list or set where its task is not: such tasks are not deleted.
--
-- Expects the local `task_prefix`.
-- USES: locks

local function delete_tasks(ids, state)
  local deleted = {}
  for _, id in ipairs(ids) do
    local task = task_prefix .. id
    if redis.pcall('HGET', task, 'state') == state then
      release_lock(task, id)
      redis.call('DEL', task)
      deleted[#deleted + 1] = id
    end
  end
  return deleted
end
