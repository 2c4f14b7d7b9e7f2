-- What a listing tells of tasks, and which tasks it leaves out.
-- USES: varint
--
-- `add_row(id, score)`: take in what there is of a task, unless there is none or a filter leaves it out.
-- `table_of_rows(count)`: what was taken in, column by column, as `count` and the number of these tasks, then
-- id, score, state, call, each of `fields`, msg and, as far as wanted, result and error (nil for what
-- lacks). A column is a list with an empty text for what lacks; or one text, where that is the same for
-- all: id, msg, result and error are always lists. A large payload is cut out of msg unless it is
-- wanted: then call says whether it was that of a call, 1 or 0; it is empty otherwise.
--
-- Expects the locals `lease`, `task_prefix`, `fields` (names, with a space between), `types` (names
-- with a zero byte between; an asterisk in one stands for anything; empty: all),
-- `error_part` (empty: all), `want_payload`, `want_result` and `want_error` (1 or 0).

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

-- Not by Lua's own patterns: with several asterisks these may take for ever.
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

-- The type, where the payload begins in the message with its tag, where it begins and where it ends.
-- All known programs write the fields in the order of their numbers.
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
