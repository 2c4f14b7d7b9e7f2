-- What a listing tells of a task, and which tasks it leaves out.
--
-- `row(reply, id, score)`: append what there is of a task to `reply`, unless there is none or a filter
-- leaves it out: one text, then for each that is wanted the result and the error. The text has id,
-- score, state, whether it is a call (1 or 0), each of `fields` and msg, with a zero byte between; empty for what lacks. The payload is cut out of msg unless it is wanted, as it
-- may be large.
--
-- Expects the locals `lease`, `task_prefix`, `fields` (names, with a space between), `types` (names
-- with a zero byte between; an asterisk at the end of one stands for anything; empty: all),
-- `error_part` (empty: all), `want_payload`, `want_result` and `want_error` (1 or 0).

local asked = { 'msg', 'state' }
for name in string.gmatch(fields, '%S+') do
  asked[#asked + 1] = name
end

local exact, beginnings = {}, {}
for name in string.gmatch(types, '[^%z]+') do
  if string.sub(name, -1) == '*' then
    beginnings[#beginnings + 1] = string.sub(name, 1, -2)
  else
    exact[name] = true
  end
end

local function varint(text, at)
  local value, factor = 0, 1
  while true do
    local byte = string.byte(text, at) or 0
    value, factor, at = value + byte % 128 * factor, factor * 128, at + 1
    if byte < 128 then
      return value, at
    end
  end
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
  for _, beginning in ipairs(beginnings) do
    if string.sub(type_name, 1, #beginning) == beginning then
      return true
    end
  end
  return false
end

local function row(reply, id, score)
  local task = task_prefix .. id
  local found = redis.pcall('HMGET', task, unpack(asked))
  local msg, state = found[1], found[2]
  if not msg or not state then
    return
  end
  local type_name, cut_at, begins, ends = parts(msg)
  if not is_wanted(type_name)
    or (error_part ~= '' and not string.find(msg, error_part, ends, true)) then
    return
  end
  local is_call = string.sub(msg, begins, math.min(begins + 3, ends - 1)) == '\0nbq' and '1' or '0'
  if want_payload ~= '1' and ends > cut_at then
    msg = string.sub(msg, 1, cut_at - 1) .. string.sub(msg, ends)
  end
  if state == 'active' then
    score = redis.call('ZSCORE', lease, id)
  end
  local words = { id, score or '', state, is_call }
  for i = 3, #asked do
    words[i + 2] = found[i] or ''
  end
  words[#words + 1] = msg
  reply[#reply + 1] = table.concat(words, '\0')
  if want_result == '1' then
    reply[#reply + 1] = redis.call('HGET', task, 'result')
  end
  if want_error == '1' then
    reply[#reply + 1] = redis.call('HGET', task, 'nbq:error')
  end
end
