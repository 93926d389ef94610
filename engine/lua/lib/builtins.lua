-- Names for what the server gives us; a local is a good deal faster than a global look-up. The server
-- opens them to running functions only, not while it loads a library, so the first call binds them.
local pack, unpack_struct, string_format, string_sub, string_byte, string_find, string_rep
local math_floor, math_max, math_min, concat, unpack_table

local function bind_builtins()
  pack, unpack_struct = struct.pack, struct.unpack
  string_format, string_sub, string_byte = string.format, string.sub, string.byte
  string_find, string_rep = string.find, string.rep
  math_floor, math_max, math_min = math.floor, math.max, math.min
  concat, unpack_table = table.concat, unpack
end
