-- Trim the archive: by age what was archived before `oldest`, by number down to `most`. The settings
-- of the queue go before these two.
--
-- Cancelled tasks go first, so that they do not displace those that failed: `cancelled` holds their ids,
-- with the scores that they have in the archive. What somebody took out of the archive may stay there,
-- and is skipped; so may the newest of what the archive keeps.
--
-- `archive_limits()`: how many the archive keeps, and since when (Unix seconds).
-- `trim_archive(slice, room)`: at most `slice` for each of the two reasons, with room for so many more.
-- Returns how many tasks were deleted, which are counted in `trim_count`, and how many of these had
-- failed, and not been cancelled.
-- `note_cancelled(members)`: these scores and ids, one after the other, were added to the archive.
--
-- Expects the locals `archived`, `oldest`, `most`, `settings`, `task_prefix`, `trim_count`,
-- `events`, `event_cap` and `now_ms`.
-- USES: numbers, counters, locks, event

local cancelled = string.sub(events, 1, -7) .. 'cancelled'
local CANCELLED_SECONDS = 90 * 86400
local MOST_STALE_CANCELLED = 1000

local function archive_limits()
  local found = redis.pcall('HMGET', settings, 'archive_max', 'archive_days')
  local days = number(found[2], 0, LARGEST)
  return whole_number(found[1], 0, LARGEST) or tonumber(most),
    days and math.floor(tonumber(now_ms) / 1000 - days * 86400) or oldest
end

local function note_cancelled(members)
  -- Somebody else may have put something else there.
  if type(redis.pcall('ZADD', cancelled, unpack(members))) == 'number' then
    local largest = archive_limits()
    redis.call('ZREMRANGEBYRANK', cancelled, 0, -largest - MOST_STALE_CANCELLED - 1)
    redis.call('EXPIRE', cancelled, CANCELLED_SECONDS)
  end
end

-- Takes up to `count` of the oldest cancelled tasks out of the archive, into `ids`.
local function take_cancelled(count, ids)
  local looked_at = 0
  while count > 0 and looked_at < MOST_STALE_CANCELLED do
    local found = redis.pcall('ZPOPMIN', cancelled, count)
    if found.err or #found == 0 then
      return
    end
    for i = 1, #found, 2 do
      if redis.call('ZSCORE', archived, found[i]) == found[i + 1] then
        redis.call('ZREM', archived, found[i])
        ids[#ids + 1] = found[i]
        count = count - 1
      end
    end
    looked_at = looked_at + #found / 2
  end
end

local function trim_archive(slice, room)
  local largest, since = archive_limits()
  local ids = redis.call('ZRANGEBYSCORE', archived, '-inf', since, 'LIMIT', 0, slice)
  local were_cancelled = {}
  if #ids > 0 then
    for _, other in ipairs(ids) do
      local score = redis.call('ZSCORE', archived, other)
      were_cancelled[other] = redis.pcall('ZSCORE', cancelled, other) == score
    end
    redis.call('ZREM', archived, unpack(ids))
  end
  local surplus = math.min(redis.call('ZCARD', archived) + room - largest, slice)
  if surplus > 0 then
    local most_ids, aged = #ids + surplus, #ids
    take_cancelled(surplus, ids)
    for i = aged + 1, #ids do
      were_cancelled[ids[i]] = true
    end
    if #ids < most_ids then
      local oldest_ids = redis.call('ZRANGE', archived, 0, most_ids - #ids - 1)
      if #oldest_ids > 0 then
        redis.call('ZREM', archived, unpack(oldest_ids))
      end
      for _, other in ipairs(oldest_ids) do
        ids[#ids + 1] = other
      end
    end
  end
  local trimmed, failed_count = {}, 0
  for _, other in ipairs(ids) do
    -- An id that does not belong here may be of a task that lives elsewhere.
    if redis.pcall('HGET', task_prefix .. other, 'state') == 'archived' then
      release_lock(task_prefix .. other, other)
      redis.call('DEL', task_prefix .. other)
      trimmed[#trimmed + 1] = other
      failed_count = failed_count + (were_cancelled[other] and 0 or 1)
    end
  end
  if #trimmed > 0 then
    tally(trim_count, #trimmed)
    event(events, event_cap, now_ms, 'trimmed', trimmed)
  end
  return #trimmed, failed_count
end
