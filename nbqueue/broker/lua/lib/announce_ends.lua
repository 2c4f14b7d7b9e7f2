-- Announce the ends of tasks to the clients that wait for them, with small results.
--
-- A client listens on one channel for all its tasks: the first characters of their ids name it.
-- `listener_of(id)`: returns that name. `add_end(ends, id, state, body)`: adds one end to a message.
-- `announce_ends(prefix, ends)`: publishes one message for each channel.
--
-- Each end in a message is: length of the id (2 bytes), state (1 byte: 'c' completed, 'a' archived, 'd' done and
-- deleted, 'x' deleted before it was done; a capital if the body is too large and has to be read from the task),
-- length of the body (4 bytes), id, body. Numbers are big-endian.
-- USES: publish

local LISTENER_LENGTH = 6
local LARGEST_BODY = 65536

local plain = {}

local function listener_of(id)
  local first = string.sub(id, 1, LISTENER_LENGTH)
  if plain[first] then
    return first
  elseif string.find(first, '[\128-\255]') then
    -- Characters, as clients count them, and not bytes.
    return string.match(id, '^' .. string.rep('[^\128-\191]?[\128-\191]*', LISTENER_LENGTH))
  end
  plain[first] = true
  return first
end

local function add_end(ends, id, state, body)
  if #body > LARGEST_BODY and state ~= 'd' then
    state, body = string.upper(state), ''
  end
  local name = listener_of(id)
  local list = ends[name]
  if not list then
    list = {}
    ends[name] = list
  end
  list[#list + 1] = struct.pack('>I2c1I4', #id, state, #body) .. id .. body
end

local function announce_ends(prefix, ends)
  for name, list in pairs(ends) do
    publish(prefix .. name, table.concat(list))
  end
end
