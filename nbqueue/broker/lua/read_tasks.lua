-- Read tasks by their ids, in whatever state they are.
--
-- Writes nothing, so it is safe to repeat.
--
-- KEYS: lease, scheduled, retry, archived, completed, *tasks
-- ARGV: task_prefix, fields, types, error_part, want_payload, want_result, want_error, then for each
--   task: id
-- RETURNS: the table of task_row.lua, with how many tasks were asked for
-- USES: task_row

local sets = { scheduled = scheduled, retry = retry, archived = archived, completed = completed }
for i = 0, #KEYS - tasks_at do
  local id = ARGV[rest_at + i]
  local set = sets[redis.pcall('HGET', KEYS[tasks_at + i], 'state') or '']
  add_row(id, set and redis.call('ZSCORE', set, id))
end
return table_of_rows(#KEYS - tasks_at + 1)
