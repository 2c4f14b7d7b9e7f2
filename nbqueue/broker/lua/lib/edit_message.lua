-- Change fields of an encoded message.
--
-- `with_failure(msg, error_field, failed_field)`: returns the message with these encoded fields, number 7 (the text
-- of the error) and number 11 (when the task failed last), in place of its own; and how often the task was retried.
-- Bytes that are no message are returned as they are, with nil.
-- USES: varint

local function with_failure(msg, error_field, failed_field)
  local at, copied_to, parts, retried = 1, 0, {}, 0
  local new = { { 7, error_field }, { 11, failed_field } }
  while at <= #msg do
    local begins, tag, length = at, nil, nil
    tag, at = varint(msg, at)
    local field, kind = math.floor(tag / 8), tag % 8
    while new[1] and field >= new[1][1] do
      parts[#parts + 1] = string.sub(msg, copied_to + 1, begins - 1)
      parts[#parts + 1] = table.remove(new, 1)[2]
      copied_to = begins - 1
    end
    if kind == 0 then
      length, at = varint(msg, at)
      retried = field == 6 and length or retried
    elseif kind == 2 then
      length, at = varint(msg, at)
      at = at + length
    elseif kind == 1 or kind == 5 then
      at = at + (kind == 1 and 8 or 4)
    else
      return msg
    end
    if field == 7 or field == 11 then
      parts[#parts + 1] = string.sub(msg, copied_to + 1, begins - 1)
      copied_to = at - 1
    end
  end
  if at ~= #msg + 1 then
    return msg
  end
  parts[#parts + 1] = string.sub(msg, copied_to + 1)
  for _, each in ipairs(new) do
    parts[#parts + 1] = each[2]
  end
  return table.concat(parts), retried
end
