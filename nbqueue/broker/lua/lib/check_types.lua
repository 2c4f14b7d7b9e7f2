-- Refuse to begin if a key is not what the script takes it for.
--
-- Redis undoes nothing of a script that stops in the middle, so it must stop before it writes.
-- `check(command, ...)`: `command` reads the length of a list, set or stream, and fails on others.

local function check(command, ...)
  for _, key in ipairs({ ... }) do
    redis.call(command, key)
  end
end
