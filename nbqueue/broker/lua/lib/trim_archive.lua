-- Trim the archive: by age to tasks archived since `oldest`, by number to `most`, or to the settings of the queue.
--
-- Cancelled tasks are trimmed first, so that they do not displace failed ones. `cancelled` holds their ids with their
-- scores in the archive; an entry whose task has left the archive is skipped.
--
-- `archive_limits()`: returns how many tasks the archive keeps, and since when (Unix seconds).
-- `trim_archive(slice, room)`: trims at most `slice` tasks for each reason, to have room for so many new ones.
-- Returns how many tasks were deleted, which are counted in `trim_count`, and how many of these had failed.
-- `note_cancelled(members)`: these scores and ids, one after the other, were added to the archive.
--
-- Expects the locals `archived`, `oldest`, `most`, `settings`, `task_prefix`, `trim_count`, `events`, `event_cap` and
-- `now_ms`.
-- USES: numbers, counters, event, delete_tasks

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
  -- Another program may have stored another type there.
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
  local trimmed, failed_count = delete_tasks(ids, 'archived'), 0
  for _, other in ipairs(trimmed) do
    failed_count = failed_count + (were_cancelled[other] and 0 or 1)
  end
  if #trimmed > 0 then
    tally(trim_count, #trimmed)
    event(events, event_cap, now_ms, 'trimmed', trimmed)
  end
  return #trimmed, failed_count
end
