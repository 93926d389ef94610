-- The `struct` library that servers give to scripts, for little-endian formats without alignment: what
-- `<` begins, then b B h H l L T, i and I with a size, x, c with a size and c0. Each format is made into a
-- function of plain Lua once. Values are doubles: an integer is rounded once, as a cast in C rounds it.
local byte, char, sub, floor, ceil, format, match = string.byte, string.char, string.sub, math.floor, math.ceil,
  string.format, string.match

local SIZES = { b = 1, B = 1, h = 2, H = 2, l = 8, L = 8, T = 8, i = 4, I = 4, x = 1, c = 1 }

-- The items of a format: what each is ('int', 'pad', 'text'), its size, and whether it has a sign.
local function read_format(text)
  if sub(text, 1, 1) ~= '<' then
    error('the simulated server knows little-endian formats only, not ' .. text)
  end
  local items, at = {}, 2
  while at <= #text do
    local letter, digits = match(text, '^(%a)(%d*)', at)
    local size = SIZES[letter]
    if not size then
      error("the simulated server does not know the format " .. text)
    end
    at = at + 1 + #digits
    if letter == 'c' or letter == 'i' or letter == 'I' then
      size = digits == '' and size or tonumber(digits)
    elseif digits ~= '' then
      error("invalid format option in " .. text)
    end
    local kind = letter == 'c' and 'text' or letter == 'x' and 'pad' or 'int'
    if kind == 'int' and (size < 1 or size > 8) then
      error('the simulated server knows integers of 1 to 8 bytes, not ' .. text)
    end
    items[#items + 1] = { kind, size, letter == 'b' or letter == 'h' or letter == 'i' or letter == 'l' }
  end
  return items
end

-- An integer from the locals b<first> ..., its highest byte in `top`. Both halves are exact, so their sum is
-- rounded once.
local function sum_bytes(first, size, top)
  local low, high = {}, {}
  for i = 0, size - 1 do
    local name = i == size - 1 and top or 'b' .. first + i
    local half = i < 4 and low or high
    half[#half + 1] = format('%s * %d', name, 256 ^ (i % 4))
  end
  if #high == 0 then
    return table.concat(low, ' + ')
  end
  return format('(%s) + (%s) * 4294967296', table.concat(low, ' + '), table.concat(high, ' + '))
end

local function compile(lines)
  return assert(loadstring(table.concat(lines, '\n')))(byte, char, sub, floor, ceil, error)
end

-- Integers that stand next to one another, from `at + offset` on.
local function unpack_integers(lines, items, first, last, value, offset)
  local names, total = {}, 0
  for i = first, last do
    for _ = 1, items[i][2] do
      total = total + 1
      names[total] = 'b' .. total
    end
  end
  lines[#lines + 1] = format('do local %s = byte(s, at + %d, at + %d)', table.concat(names, ', '), offset,
    offset + total - 1)
  local at = 1
  for i = first, last do
    local size, has_sign = items[i][2], items[i][3]
    local top = 'b' .. at + size - 1
    if has_sign then
      lines[#lines + 1] = format('if %s > 127 then %s = %s - 256 end', top, top, top)
    end
    lines[#lines + 1] = format('v%d = %s', value + i - first, sum_bytes(at, size, top))
    at = at + size
  end
  lines[#lines + 1] = 'end'
  return total
end

-- Which of the values are returned: c0 takes the one before it away. All are locals: a function has room for 200.
local function name_values(items)
  local kept, count = {}, 0
  for _, item in ipairs(items) do
    if item[1] ~= 'pad' then
      count = count + 1
      if item[1] == 'text' and item[2] == 0 then
        kept[#kept] = nil
      end
      kept[#kept + 1] = 'v' .. count
    end
  end
  return kept, count
end

local function make_unpack(text)
  local items = read_format(text)
  local kept, count = name_values(items)
  local lines = {
    'local byte, char, sub, floor, ceil, error = ...',
    'return function(s, at)',
    'at = at or 1',
    "if at < 1 then error('offset must be 1 or greater') end",
    'local size = #s',
    "if at > size + 1 then error('data string too short') end",
  }
  if count > 0 then
    local names = {}
    for i = 1, count do
      names[i] = 'v' .. i
    end
    lines[#lines + 1] = 'local ' .. table.concat(names, ', ')
  end
  local i, value = 1, 1
  while i <= #items do
    -- A run of fixed sizes has one check.
    local last, width = i, 0
    while items[last] and not (items[last][1] == 'text' and items[last][2] == 0) do
      width = width + items[last][2]
      last = last + 1
    end
    if width > 0 then
      lines[#lines + 1] = format("if at + %d > size then error('data string too short') end", width - 1)
      local offset = 0
      while i < last do
        local kind, size = items[i][1], items[i][2]
        if kind == 'int' then
          local till = i
          while till + 1 < last and items[till + 1][1] == 'int' do
            till = till + 1
          end
          offset = offset + unpack_integers(lines, items, i, till, value, offset)
          value, i = value + till - i + 1, till + 1
        else
          if kind == 'text' then
            lines[#lines + 1] = format('v%d = sub(s, at + %d, at + %d)', value, offset, offset + size - 1)
            value = value + 1
          end
          offset, i = offset + size, i + 1
        end
      end
      lines[#lines + 1] = format('at = at + %d', width)
    end
    if items[i] then
      local before = items[i - 1]
      if not before or before[1] ~= 'int' then
        lines[#lines + 1] = "error(\"format 'c0' needs a previous size\")"
      end
      lines[#lines + 1] = format("if at + v%d - 1 > size then error('data string too short') end", value - 1)
      lines[#lines + 1] = format('v%d = sub(s, at, at + v%d - 1) at = at + v%d', value, value - 1, value - 1)
      value, i = value + 1, i + 1
    end
  end
  kept[#kept + 1] = 'at'
  lines[#lines + 1] = 'return ' .. table.concat(kept, ', ') .. '\nend'
  return compile(lines)
end

local function make_pack(text)
  local items = read_format(text)
  local lines, names, parts, bytes, count = {}, {}, {}, {}, 0
  local function end_bytes()
    if #bytes > 0 then
      parts[#parts + 1] = 'char(' .. table.concat(bytes, ', ') .. ')'
      bytes = {}
    end
  end
  for index, item in ipairs(items) do
    local kind, size = item[1], item[2]
    if kind == 'pad' then
      bytes[#bytes + 1] = '0'
    else
      count = count + 1
      local name = 'a' .. count
      names[count] = name
      if kind == 'text' then
        end_bytes()
        lines[#lines + 1] = format("if type(%s) == 'number' then %s = %s .. '' end", name, name, name)
        lines[#lines + 1] = format("if type(%s) ~= 'string' then error('bad argument: string expected') end", name)
        if size > 0 then
          lines[#lines + 1] = format("if #%s < %d then error('string too short') end", name, size)
        end
        parts[#parts + 1] = size == 0 and name or format('sub(%s, 1, %d)', name, size)
      else
        lines[#lines + 1] = format("if type(%s) ~= 'number' then", name)
        lines[#lines + 1] = format("%s = tonumber(%s) or error('bad argument: number expected') end", name, name)
        lines[#lines + 1] = format('if %s %% 1 ~= 0 then %s = %s < 0 and ceil(%s) or floor(%s) end', name, name, name,
          name, name)
        local own = {}
        for i = 1, size do
          own[i] = format('x%d_%d', index, i)
          bytes[#bytes + 1] = own[i]
        end
        lines[#lines + 1] = 'local ' .. table.concat(own, ', ')
        for i = 1, size do
          local rest = i < size and format(' %s = (%s - %s) / 256', name, name, own[i]) or ''
          lines[#lines + 1] = format('%s = %s %% 256%s', own[i], name, rest)
        end
      end
    end
  end
  end_bytes()
  return compile({
    'local byte, char, sub, floor, ceil, error = ...',
    format('return function(%s)', table.concat(names, ', ')),
    table.concat(lines, '\n'),
    'return ' .. (#parts > 0 and table.concat(parts, ' .. ') or "''"),
    'end',
  })
end

local function remember(make)
  return setmetatable({}, {
    __index = function(known, text)
      local made = make(text)
      known[text] = made
      return made
    end,
  })
end

local packers, unpackers = remember(make_pack), remember(make_unpack)

-- Big-endian integers: each is a little-endian one turned round.
local function pack_big(text, ...)
  local parts, values = {}, { ... }
  for letter, digits in string.gmatch(sub(text, 2), '([iIH])(%d*)') do
    parts[#parts + 1] = string.reverse(packers['<' .. letter .. digits](values[#parts + 1]))
  end
  return table.concat(parts)
end

local function unpack_big(text, s, at)
  local values = {}
  at = at or 1
  for letter, digits in string.gmatch(sub(text, 2), '([iIH])(%d*)') do
    local size = letter == 'H' and 2 or tonumber(digits)
    if at + size - 1 > #s then
      error('data string too short')
    end
    values[#values + 1] = unpackers['<' .. letter .. digits](string.reverse(sub(s, at, at + size - 1)), 1)
    at = at + size
  end
  values[#values + 1] = at
  return unpack(values)
end

return {
  pack = function(text, ...)
    if sub(text, 1, 1) == '>' then
      return pack_big(text, ...)
    end
    return packers[text](...)
  end,
  unpack = function(text, s, at)
    if sub(text, 1, 1) == '>' then
      return unpack_big(text, s, at)
    end
    return unpackers[text](s, at)
  end,
}
