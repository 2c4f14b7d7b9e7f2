-- Numbers that any program may have written.
--
-- `number(text, least, most)`: the number that `text` spells; nil if it spells none, or is out of
-- range. Lua also reads 'inf', 'nan' and '1e999', which commands refuse in the middle of a script.
-- `whole_number` is nil for fractions, too.

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
