-- Report when a queue needs maintenance next. Changes nothing.
--
-- It reads only the first entry of each set. A key that holds something else counts as due now, so that the script
-- for it reports the fault. It runs as a tracked command: the server reports when one of the keys changes.
--
-- KEYS: scheduled, retry, lease, active, completed, waiting, schedules, aggregation_sets, cancels,
--   requirements
-- ARGV: (nothing)
-- RETURNS: the first scores of scheduled, retry, lease, completed and waiting (empty: there is
--   none), then 1 or 0 for each: is a task without a lease (or a lease without a task), are
--   schedules, are aggregation sets, are tasks cancelled that run in Go; then the requirements of
--   tasks that are parked for them

local function first(key)
  local found = redis.pcall('ZRANGE', key, 0, 0, 'WITHSCORES')
  return found.err and '0' or found[2] or ''
end

local function count(command, key)
  local found = redis.pcall(command, key)
  return type(found) == 'number' and found or -1
end

local leased = first(lease)
local held = count('LLEN', active)
local is_odd = held ~= 0
if leased ~= '' then
  is_odd = held < 0 or held ~= count('ZCARD', lease)
end
local needed = redis.pcall('SMEMBERS', requirements)
return {
  first(scheduled), first(retry), leased, first(completed), first(waiting),
  is_odd and 1 or 0,
  redis.call('EXISTS', schedules),
  redis.call('EXISTS', aggregation_sets),
  redis.call('EXISTS', cancels),
  needed.err and {} or needed,
}
