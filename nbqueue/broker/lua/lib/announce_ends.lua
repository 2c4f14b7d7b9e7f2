-- Tell the clients that wait for a task that it ended, with its result where that is small.
--
-- A client listens on one channel for all tasks that it submitted: the first characters of their
-- ids name it. `add_end(ends, id, state, body)` notes one end, `announce_ends(ends)` tells them all, with
-- one message a channel; `listener_of(id)` is the name. In a message each end is: length of id (2 bytes), state (1 byte: 'c'
-- completed, 'a' archived, 'd' done and deleted, 'x' deleted undone; a capital says that the body was too large and lies in
-- the task's hash, which a deleted task has no more), length of body (4 bytes), id, body. Numbers are big-endian.
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
