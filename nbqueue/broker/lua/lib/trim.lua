-- Trim the archive: by age what was archived before `oldest`, by number down to `most`. The settings
-- of the queue go before these two.
--
-- `archive_limits()`: how many the archive keeps, and since when (Unix seconds).
-- `trim(slice, room)`: at most `slice` for each of the two reasons, with room for so many more.
-- Returns how many tasks were deleted; they are counted in `trim_count`.
--
-- Expects the locals `archived`, `oldest`, `most`, `settings`, `task_prefix`, `trim_count`,
-- `events`, `event_cap` and `now_ms`.

local function archive_limits()
  local found = redis.pcall('HMGET', settings, 'archive_max', 'archive_days')
  local days = tonumber(found[2] or '')
  return tonumber(found[1] or '') or tonumber(most),
    days and math.floor(tonumber(now_ms) / 1000 - days * 86400) or oldest
end

local function trim(slice, room)
  local largest, since = archive_limits()
  local old = redis.call('ZRANGEBYSCORE', archived, '-inf', since, 'LIMIT', 0, slice)
  local surplus = redis.call('ZCARD', archived) - #old + room - largest
  if surplus > 0 then
    surplus = math.min(surplus, slice)
    for _, other in ipairs(redis.call('ZRANGE', archived, #old, #old + surplus - 1)) do
      old[#old + 1] = other
    end
  end
  local trimmed = {}
  for _, other in ipairs(old) do
    redis.call('ZREM', archived, other)
    -- An id that does not belong here may be of a task that lives elsewhere.
    if redis.pcall('HGET', task_prefix .. other, 'state') == 'archived' then
      drop_lock(task_prefix .. other, other)
      redis.call('DEL', task_prefix .. other)
      trimmed[#trimmed + 1] = other
    end
  end
  if #trimmed > 0 then
    redis.call('INCRBY', trim_count, #trimmed)
    event(events, event_cap, now_ms, 'trimmed', trimmed)
  end
  return #trimmed
end
