-- The Lua 5.1 that Redis and Valkey embed, with the libraries they add. scripts/lint_lua.py hands
-- each verb over together with its includes.
std = "lua51"
read_globals = { "redis", "server", "struct", "cjson", "cmsgpack", "bit", "KEYS", "ARGV" }
max_line_length = 120
max_comment_line_length = 140 -- a header's contract names its fields on one line
ignore = {
  "2[13]1/_.*", -- a result that a name marks as not wanted
  "431", -- `local text_of = text_of`: a local is faster than an upvalue
}
