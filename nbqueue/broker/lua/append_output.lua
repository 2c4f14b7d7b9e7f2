-- Append the output of running tasks, note their progress, and publish both to live views.
--
-- Only for tasks whose lease the caller holds. Entries are numbered by attempt and position, and `nbq:output` in
-- the task holds the number of the last one, so entries that exist are not written again. A stream of a task
-- without that field is of an earlier task with its id, and is deleted. The output expires by itself. Safe to
-- repeat.
--
-- `entries` are words, each after its length (4 bytes, big-endian); six for an entry: number, at, kind, before,
-- lines, data.
--
-- KEYS: lease, *tasks
-- ARGV: output_prefix, then for each task: id, fence, attempt, ttl_ms, entries, drop (numbers with
--   a space between), progress (JSON; empty: as it was), channel, news (empty: none)
-- RETURNS: the positions (from 0) of tasks that the caller no longer held
-- USES: check_types, fence, publish

local function is_newer(last, attempt, number)
  if not last then
    return true
  end
  local dash = string.find(last, '-', 1, true)
  local before = tonumber(string.sub(last, 1, (dash or 0) - 1)) or 0
  if before ~= attempt then
    return before < attempt
  end
  return (tonumber(string.sub(last, dash + 1)) or 0) < number
end

local function append(output, last, attempt, entries)
  local at = 1
  while at <= #entries do
    local words = {}
    for i = 1, 6 do
      local size
      size, at = struct.unpack('>I4', entries, at)
      words[i] = string.sub(entries, at, at + size - 1)
      at = at + size
    end
    if is_newer(last, tonumber(attempt), tonumber(words[1])) then
      local entry = attempt .. '-' .. words[1]
      local made = redis.pcall('XADD', output, entry, 'at', words[2], 'kind', words[3],
        'before', words[4], 'lines', words[5], 'data', words[6])
      -- A stream that was written to by hand may refuse an entry, but not the following ones.
      if type(made) == 'string' then
        last = entry
      end
    end
  end
  return last
end

check('ZCARD', lease)
local refused = {}
for i = 0, #KEYS - tasks_at do
  local task, at = KEYS[tasks_at + i], rest_at + 9 * i
  local id, attempt = ARGV[at], ARGV[at + 2]
  local output = output_prefix .. id
  local kind = redis.call('TYPE', output)['ok']
  if is_held(lease, task, id, ARGV[at + 1], nil, true) and (kind == 'none' or kind == 'stream') then
    local last = redis.call('HGET', task, 'nbq:output')
    if not last and kind == 'stream' and ARGV[at + 4] ~= '' then
      redis.call('UNLINK', output)
    end
    local now_last = append(output, last, attempt, ARGV[at + 4])
    for number in string.gmatch(ARGV[at + 5], '%d+') do
      redis.call('XDEL', output, attempt .. '-' .. number)
    end
    if now_last and now_last ~= last then
      redis.call('HSET', task, 'nbq:output', now_last)
    end
    if ARGV[at + 6] ~= '' then
      redis.call('HSET', task, 'nbq:progress', ARGV[at + 6])
    end
    redis.call('PEXPIRE', output, ARGV[at + 3])
    if ARGV[at + 8] ~= '' then
      publish(ARGV[at + 7], ARGV[at + 8])
    end
  else
    refused[#refused + 1] = i
  end
end
return refused
