-- Cancel tasks that are not running: archive them with the reason.
--
-- Running tasks are refused; the caller asks their workers. Unique locks are released. The failure is written into
-- each message here, so that messages need not be read and sent back; large ones are refused, see cancel.lua.
-- Trims the archive, at most 500 cancelled tasks, oldest first. If the caller is going to cancel as many tasks
-- `later` as the archive keeps, these tasks are deleted at once. Safe to repeat.
--
-- `listener` names the channel of the caller, which needs no announcement of these ends; empty if it has none. An
-- end is announced only if another client listens, which needs the error. A task without an error is refused as
-- UNSIGNED then, and if it stays in the archive.
--
-- KEYS: pending, scheduled, retry, archived, completed, groups, events, trim_count, settings, *tasks
-- ARGV: now_ms, event_cap, group_prefix, task_prefix, ends_prefix, oldest (Unix seconds), most,
--   error_field (field 7 of the message), failed_field (field 11), mark_rest (of the
--   failure, behind how often it was retried), later, listener, then for each task: id,
--   distance (see remove_from_state.lua), error (may be empty)
-- RETURNS: for each task that was refused: its position (from 0), and a word of select_tasks.lua, or
--   UNSIGNED
-- USES: check_types, event, announce_ends, counters, locks, remove_from_state, select_tasks, edit_message, limit_places, trim_archive

check_states()
check_counters(trim_count)
local chosen, refused = select_tasks(3, '', {
  pending = true, scheduled = true, retry = true, aggregating = true }, 'change')
local is_kept = tonumber(later) < archive_limits()
local heard = {}

local function is_heard(id)
  local name = listener_of(id)
  if heard[name] == nil then
    local found = redis.pcall('PUBSUB', 'NUMSUB', ends_prefix .. name)
    -- Without the right to ask, announce.
    heard[name] = found.err ~= nil or tonumber(found[2]) > (name == listener and 1 or 0)
  end
  return heard[name]
end

local with_errors = {}
for _, each in ipairs(chosen) do
  if ARGV[each[5] + 2] == '' and (is_kept or is_heard(each[2])) then
    refused[#refused + 1] = each[9]
    refused[#refused + 1] = 'UNSIGNED'
  else
    with_errors[#with_errors + 1] = each
  end
end
chosen = locate(with_errors, refused, 1)
if #chosen > 0 then
  local ids, members, ends, gone = {}, {}, {}, {}
  local now_s = math.floor(tonumber(now_ms) / 1000)
  remove_all_from_state(chosen)
  for i, each in ipairs(chosen) do
    local task, id, msg, error_body = each[1], each[2], each[8], ARGV[each[5] + 2]
    if string.find(msg, ':unique:', 1, true) then
      release_lock(task, id)
    end
    if is_kept then
      local changed, retried = with_failure(msg, error_field, failed_field)
      local mark = retried and string.format('%.0f ', retried) .. mark_rest or ''
      redis.call('HSET', task, 'msg', changed, 'state', 'archived', 'nbq:error', error_body,
        'nbq:failed', mark)
      members[2 * i - 1], members[2 * i] = now_s, id
    else
      gone[i] = task
    end
    if is_heard(id) then
      add_end(ends, id, 'a', error_body)
    end
    ids[i] = id
  end
  event(events, event_cap, now_ms, 'archived', ids)
  if is_kept then
    redis.call('ZADD', archived, unpack(members))
    note_cancelled(members)
    trim_archive(500, 0)
  else
    redis.call('DEL', unpack(gone))
    tally(trim_count, #ids)
    event(events, event_cap, now_ms, 'trimmed', ids)
  end
  announce_ends(ends_prefix, ends)
  forget_waits(chosen)
end
return refused
