-- Offer to take one new task of a queue as it is written; see lib/hand.lua. The oldest offer is used first.
--
-- An offer that has run out is worth nothing, so the list expires with the last one. Not safe to
-- repeat: each offer is for one task.
--
-- KEYS: offers
-- ARGV: offer, lasts_ms
-- RETURNS: how many offers there are

local length = redis.call('LPUSH', offers, offer)
redis.call('PEXPIRE', offers, lasts_ms)
return length
