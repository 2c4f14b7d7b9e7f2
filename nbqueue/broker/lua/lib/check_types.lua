-- Refuse to begin if a key holds something else than the script expects.
--
-- Redis does not undo what a script wrote before it fails, so a script must fail before it writes.
-- `check(command, ...)`: runs a command that reads the length of a list, set or stream, and fails on others.

local function check(command, ...)
  for _, key in ipairs({ ... }) do
    redis.call(command, key)
  end
end
