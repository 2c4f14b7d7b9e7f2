-- Read numbers that any program may have written.
--
-- `number(text, least, most)`: returns the number in `text`, or nil if there is none in this range. Lua would also
-- read 'inf', 'nan' and '1e999', which commands refuse in the middle of a script. `whole_number(text, least, most)`:
-- nil for fractions as well. `add(key, field, by)`: adds to a number in a hash; anything but a whole number counts as
-- 0, where HINCRBY would fail in the middle of a script.

local LARGEST = 9007199254740991

local function number(text, least, most)
  local found = type(text) == 'string' and tonumber(text)
  if found and found >= least and found <= most then
    return found
  end
end

local function whole_number(text, least, most)
  local found = number(text, least, most)
  return found and found % 1 == 0 and found or nil
end

local function add(key, field, by)
  local before = whole_number(redis.call('HGET', key, field), -LARGEST, LARGEST) or 0
  redis.call('HSET', key, field, string.format('%.0f', before + by))
end
