-- Numbers that any program may have written.
--
-- `number(text, least, most)`: the number that `text` spells; nil if it spells none, or is out of
-- range. Lua also reads 'inf', 'nan' and '1e999', which commands refuse in the middle of a script.
-- `whole_number` is nil for fractions, too. `add(key, field, by)` adds to the number in a field of a
-- hash, where anything but a whole number counts as 0: HINCRBY would stop the script there.

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
