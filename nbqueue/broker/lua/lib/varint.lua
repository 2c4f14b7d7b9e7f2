-- Read numbers in an encoded message.
--
-- `varint(text, at)`: returns the number that begins at this byte, and where the next field begins.

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
