-- A server as scripts see it: functions, and the commands of `commands.lua`. One Lua state has many stores;
-- nothing runs between the first line of a call and its last. Replies leave in wire form.
local struct, served = ...
local commands, writers, KEYLESS, fail, write_number = served.commands, served.writers, served.keyless,
  served.fail, served.write_number
local format, match, upper, concat = string.format, string.match, string.upper, table.concat

-- The store that works at this moment, and what holds for the call under way.
local store
local is_reading_only, tag_in_use = false, nil

-- ---------------------------------------------------------------- scripts

local redis = {}

function redis.call(name, ...)
  local command = commands[name] or commands[upper(name)]
  if not command then
    fail('ERR the simulated server does not know the command ' .. name)
  elseif is_reading_only and writers[upper(name)] then
    fail('ERR Write commands are not allowed from read-only scripts.')
  end
  local a = { ... }
  for i = 1, #a do
    local kind = type(a[i])
    if kind == 'number' then
      a[i] = write_number(a[i])
    elseif kind ~= 'string' then
      fail('ERR Lua redis lib command arguments must be strings or integers')
    end
  end
  if select('#', ...) ~= #a then
    fail('ERR Lua redis lib command arguments must be strings or integers')
  elseif tag_in_use and not KEYLESS[name] and match(a[1], '{(.-)}') ~= tag_in_use then
    fail('ERR Script attempted to access a non local key in a cluster node')
  end
  return command(a)
end

function redis.register_function(registered)
  local flags = {}
  for _, flag in ipairs(registered.flags or {}) do
    flags[flag] = true
  end
  store.functions[registered.function_name] = { callback = registered.callback, flags = flags }
end

-- While a library loads it sees little; a running function sees the libraries too, and no global is set.
-- Reads the forms of msgpack that settings have: enough of the library that servers give to scripts.
local cmsgpack = {}

local function read_size(text, at, bytes)
  local size = 0
  for i = at, at + bytes - 1 do
    size = size * 256 + string.byte(text, i)
  end
  return size, at + bytes
end

local function read_float(text, at)
  local b = { string.byte(text, at, at + 7) }
  local sign, exponent = b[1] >= 128 and -1 or 1, b[1] % 128 * 16 + math.floor(b[2] / 16)
  local fraction = b[2] % 16
  for i = 3, 8 do
    fraction = fraction * 256 + b[i]
  end
  if exponent == 0 then
    return sign * math.ldexp(fraction, -1074), at + 8
  end
  return sign * math.ldexp(1 + fraction / 2 ^ 52, exponent - 1023), at + 8
end

local read_value

local function read_many(text, at, count, is_map)
  local found, key, value = {}, nil, nil
  for i = 1, count do
    key = i
    if is_map then
      key, at = read_value(text, at)
    end
    value, at = read_value(text, at)
    found[key] = value
  end
  return found, at
end

function read_value(text, at)
  local kind, size = string.byte(text, at), nil
  at = at + 1
  if kind < 128 then
    return kind, at
  elseif kind < 144 then
    return read_many(text, at, kind - 128, true)
  elseif kind < 160 then
    return read_many(text, at, kind - 144, false)
  elseif kind < 192 or kind >= 217 and kind <= 219 then
    size = kind - 160
    if kind >= 192 then
      size, at = read_size(text, at, 2 ^ (kind - 217))
    end
    return string.sub(text, at, at + size - 1), at + size
  elseif kind == 192 then
    return nil, at
  elseif kind == 194 or kind == 195 then
    return kind == 195, at
  elseif kind == 203 then
    return read_float(text, at)
  elseif kind >= 204 and kind <= 207 then
    return read_size(text, at, 2 ^ (kind - 204))
  elseif kind >= 208 and kind <= 211 then
    local bytes = 2 ^ (kind - 208)
    size, at = read_size(text, at, bytes)
    return size >= 2 ^ (8 * bytes - 1) and size - 2 ^ (8 * bytes) or size, at
  elseif kind == 220 or kind == 221 then
    size, at = read_size(text, at, 2 ^ (kind - 219))
    return read_many(text, at, size, false)
  elseif kind == 222 or kind == 223 then
    size, at = read_size(text, at, 2 ^ (kind - 221))
    return read_many(text, at, size, true)
  elseif kind >= 224 then
    return kind - 256, at
  end
  error('a form of msgpack that is not simulated: ' .. kind)
end

function cmsgpack.unpack(text)
  return (read_value(text, 1))
end

local function open_libraries(globals)
  globals.redis.call = redis.call
  for name, library in pairs({ struct = struct, cmsgpack = cmsgpack, string = string, math = math, table = table }) do
    rawset(globals, name, library)
  end
end

local function new_globals(is_running)
  local globals = { redis = { register_function = redis.register_function } }
  if is_running then
    open_libraries(globals)
  end
  for _, name in ipairs({ 'assert', 'error', 'ipairs', 'next', 'pairs', 'select', 'setmetatable', 'tonumber',
    'tostring', 'type', 'unpack' }) do
    globals[name] = _G[name]
  end
  return setmetatable(globals, {
    __index = function(_, name)
      error("Script attempted to access nonexistent global variable '" .. tostring(name) .. "'")
    end,
    __newindex = function()
      error('Attempt to modify a readonly table')
    end,
  })
end

-- The last one alone: each data set has a text of its own, and thousands of them come and go.
local compiled = {}

local function load_library(text)
  if compiled.text ~= text then
    -- The first line names the library; it is no Lua.
    compiled.text, compiled.chunk = text, assert(loadstring('--' .. text, '@library'))
  end
  local chunk = compiled.chunk
  local globals = new_globals()
  setfenv(chunk, globals)()
  -- Functions keep the table they were made with: what they may see is opened to them now.
  open_libraries(globals)
end

-- ---------------------------------------------------------------- the wire

local function encode(reply, parts)
  local kind = type(reply)
  if kind == 'number' then
    parts[#parts + 1] = format(':%d\r\n', reply)
  elseif kind == 'string' then
    parts[#parts + 1] = '$' .. #reply .. '\r\n' .. reply .. '\r\n'
  elseif kind == 'boolean' or kind == 'nil' then
    parts[#parts + 1] = reply and ':1\r\n' or '$-1\r\n'
  elseif reply.err then
    parts[#parts + 1] = '-' .. reply.err .. '\r\n'
  elseif reply.ok then
    parts[#parts + 1] = '+' .. reply.ok .. '\r\n'
  else
    -- A list ends before its first nil, whatever comes after.
    local size = 0
    while reply[size + 1] ~= nil do
      size = size + 1
    end
    parts[#parts + 1] = '*' .. size .. '\r\n'
    for i = 1, size do
      encode(reply[i], parts)
    end
  end
end

local function call_function(words)
  local called = store.functions[words[2]]
  if not called then
    fail('ERR Function not found')
  elseif store.is_full and not called.flags['allow-oom'] and not called.flags['no-writes'] then
    fail("OOM command not allowed when used memory > 'maxmemory'.")
  end
  local count, names, arguments = tonumber(words[3]), {}, {}
  for i = 1, count do
    names[i] = words[i + 3]
  end
  for i = count + 4, #words do
    arguments[i - count - 3] = words[i]
  end
  is_reading_only = called.flags['no-writes'] or false
  tag_in_use = store.checks_slots and match(names[1], '{(.-)}')
  return called.callback(names, arguments)
end

local function run(words)
  local name = upper(words[1])
  if name == 'FCALL' then
    return call_function(words)
  elseif name == 'EVAL' then
    local globals = new_globals(true)
    rawset(globals, 'KEYS', {})
    rawset(globals, 'ARGV', { unpack(words, 4) })
    return setfenv(assert(loadstring(words[2], '@script')), globals)()
  elseif name == 'FUNCTION' then
    load_library(words[#words])
    return { ok = 'OK' }
  end
  local command = commands[name] or fail('ERR the simulated server does not know the command ' .. name)
  return command({ unpack(words, 2) })
end

-- Runs what came over the wire, and returns what goes back.
local function execute(chosen, at_us, ...)
  store, is_reading_only, tag_in_use = chosen, false, nil
  served.work_on(chosen.keys, at_us, chosen.run_id)
  local is_done, reply = pcall(run, { ... })
  if not is_done then
    reply = type(reply) == 'table' and reply or { err = 'ERR ' .. tostring(reply):gsub('[\r\n]', ' ') }
  end
  local parts = {}
  encode(reply, parts)
  return concat(parts)
end

local function copy(value)
  if type(value) ~= 'table' then
    return value
  end
  local copied = {}
  for key, inner in pairs(value) do
    copied[key] = copy(inner)
  end
  return copied
end

return {
  execute = execute,
  new_store = function(checks_slots, run_id)
    return { keys = {}, functions = {}, checks_slots = checks_slots, is_full = false, run_id = run_id }
  end,
  flush_functions = function(chosen)
    chosen.functions = {}
  end,
  -- Another process has the keys now. It has the functions too, but not what they knew.
  restart = function(chosen, run_id, text)
    chosen.run_id, chosen.is_full = run_id, false
    if next(chosen.functions) then
      store = chosen
      load_library(text)
    end
  end,
  set_full = function(chosen, is_full)
    chosen.is_full = is_full
  end,
  -- What a replica has: a copy of the keys, and later that copy in the place of what was there.
  copy_keys = function(chosen)
    return copy(chosen.keys)
  end,
  put_keys = function(chosen, copied)
    chosen.keys = copy(copied)
  end,
}
