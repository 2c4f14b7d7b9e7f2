-- Offer to take one new task of a queue; see lib/handoff.lua.
--
-- The oldest offer is used first. The list of offers expires with its newest one. In a queue with a limit of its
-- own nothing is offered, since only a fetch counts active tasks. Not safe to repeat: each offer is for one task.
--
-- KEYS: offers, settings
-- ARGV: offer, lasts_ms
-- RETURNS: how many offers there are, or 0 if this one was not accepted

if redis.pcall('HEXISTS', settings, 'concurrency') == 1 then
  return 0
end
local length = redis.call('LPUSH', offers, offer)
redis.call('PEXPIRE', offers, lasts_ms)
return length
