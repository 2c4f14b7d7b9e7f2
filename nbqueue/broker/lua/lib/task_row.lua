-- Rows of a listing of tasks, with filters.
--
-- `add_row(id, score)`: adds a task, unless it does not exist or a filter excludes it. `table_of_rows(count)`: returns
-- the rows column by column: `count`, the number of rows, then id, score, state, call, each of `fields`, msg and, as
-- far as wanted, result and error (nil for none). A column is a list, with empty text for none; or one text, if that
-- is the value in all rows (not for id, msg, result and error). A large payload is cut out of msg unless it is
-- wanted: call is then 1 if it was that of a call and 0 if not; else call is empty.
--
-- Expects the locals `lease`, `task_prefix`, `fields` (names, with spaces between), `types` (names, with zero bytes
-- between; an asterisk stands for any text; empty: all), `error_part` (empty: all), `want_payload`, `want_result`
-- and `want_error` (1 or 0).
-- USES: varint

local LARGE = 512

local asked = { 'msg', 'state' }
for name in string.gmatch(fields, '%S+') do
  asked[#asked + 1] = name
end
local first_asked = #asked
if want_result == '1' then
  asked[#asked + 1] = 'result'
end
if want_error == '1' then
  asked[#asked + 1] = 'nbq:error'
end

local exact, patterns = {}, {}
for name in string.gmatch(types, '[^%z]+') do
  if string.find(name, '*', 1, true) then
    local parts = {}
    for part in string.gmatch(name .. '*', '([^*]*)%*') do
      parts[#parts + 1] = part
    end
    patterns[#patterns + 1] = parts
  else
    exact[name] = true
  end
end

-- Not with patterns of Lua, which may take forever with several asterisks.
local function fits(text, parts)
  local first, last = parts[1], parts[#parts]
  local stop = #text - #last
  if stop < #first or string.sub(text, 1, #first) ~= first or string.sub(text, stop + 1) ~= last then
    return false
  end
  local at = #first + 1
  for i = 2, #parts - 1 do
    local _, found = string.find(text, parts[i], at, true)
    if parts[i] ~= '' then
      if not found or found > stop then
        return false
      end
      at = found + 1
    end
  end
  return true
end

-- Returns the type, and where the payload begins with its tag, begins and ends in the message. All known programs
-- write fields in the order of their numbers.
local function parts(msg)
  local at, type_name = 1, nil
  if string.byte(msg, at) == 10 then
    local length, begins = varint(msg, 2)
    type_name, at = string.sub(msg, begins, begins + length - 1), begins + length
  end
  if string.byte(msg, at) ~= 18 then
    return type_name, at, at, at
  end
  local length, begins = varint(msg, at + 1)
  return type_name, at, begins, begins + length
end

local function is_wanted(type_name)
  if types == '' or not type_name or exact[type_name] then
    return true
  end
  for _, pattern in ipairs(patterns) do
    if fits(type_name, pattern) then
      return true
    end
  end
  return false
end

local chooses = types ~= '' or error_part ~= ''
local cuts = want_payload ~= '1'
local number = 0
local ids, scores, states, calls, more, msgs = {}, {}, {}, {}, {}, {}
for i = 3, #asked do
  more[i] = {}
end

local function add_row(id, score)
  local found = redis.pcall('HMGET', task_prefix .. id, unpack(asked))
  local msg, state = found[1], found[2]
  if not msg or not state then
    return
  end
  local call = ''
  if chooses or cuts and #msg > LARGE then
    local type_name, cut_at, begins, ends = parts(msg)
    if not is_wanted(type_name)
      or (error_part ~= '' and not string.find(msg, error_part, ends, true)) then
      return
    end
    if cuts and #msg > LARGE then
      call = string.sub(msg, begins, math.min(begins + 3, ends - 1)) == '\0nbq' and '1' or '0'
      msg = string.sub(msg, 1, cut_at - 1) .. string.sub(msg, ends)
    end
  end
  if state == 'active' then
    score = redis.pcall('ZSCORE', lease, id)
    score = type(score) == 'string' and score or ''
  end
  number = number + 1
  ids[number], scores[number], states[number] = id, score or '', state
  calls[number], msgs[number] = call, msg
  for i = 3, #asked do
    more[i][number] = found[i] or i <= first_asked and ''
  end
end

local function column(values)
  local first = values[1]
  for i = 2, number do
    if values[i] ~= first then
      return values
    end
  end
  return first or ''
end

local function table_of_rows(count)
  local reply = { count, number, ids, column(scores), column(states), column(calls) }
  for i = 3, first_asked do
    reply[#reply + 1] = column(more[i])
  end
  reply[#reply + 1] = msgs
  for i = first_asked + 1, #asked do
    reply[#reply + 1] = more[i]
  end
  return reply
end
