-- Append to the stream of events of a queue. Its cap bounds its size; readers notice gaps.
--
-- `event(stream, cap, at, name, ids)`: these tasks made this transition at `at` (Unix ms). Ids are joined by spaces;
-- an id with a space, as programs in Go may make them, gets an entry of its own. A beginning that several ids share,
-- such as those of a map, is written once.

local FEW, SHORT = 3, 6

-- Returns how many ASCII characters all ids have in common at their start; 0 if these are few.
local function in_common(ids)
  local first, last = ids[1], ids[#ids]
  local length = #string.match(first, '^[%z\1-\127]*')
  for i = 1, length do
    if string.byte(first, i) ~= string.byte(last, i) then
      length = i - 1
      break
    end
  end
  local head = string.sub(first, 1, length)
  for i = 1, #ids do
    while string.sub(ids[i], 1, length) ~= head do
      length = length - 1
      head = string.sub(first, 1, length)
    end
    if length < SHORT then
      return 0
    end
  end
  return length
end

local function event(stream, cap, at, name, ids)
  if #ids == 1 then
    redis.call('XADD', stream, 'MAXLEN', '~', cap, '*', 'event', name, 'at', at,
      string.find(ids[1], ' ', 1, true) and 'id' or 'ids', ids[1])
    return
  end
  if string.find(table.concat(ids), ' ', 1, true) then
    local others = {}
    for _, id in ipairs(ids) do
      if string.find(id, ' ', 1, true) then
        redis.call('XADD', stream, 'MAXLEN', '~', cap, '*', 'event', name, 'at', at, 'id', id)
      else
        others[#others + 1] = id
      end
    end
    if #others == 0 then
      return
    end
    ids = others
  end
  local length = #ids > FEW and in_common(ids) or 0
  if length > 0 then
    local rests = {}
    for i = 1, #ids do
      rests[i] = string.sub(ids[i], length + 1)
    end
    redis.call('XADD', stream, 'MAXLEN', '~', cap, '*', 'event', name, 'at', at,
      'head', string.sub(ids[1], 1, length), 'rests', table.concat(rests, ' '))
  else
    redis.call('XADD', stream, 'MAXLEN', '~', cap, '*',
      'event', name, 'at', at, 'ids', table.concat(ids, ' '))
  end
end
