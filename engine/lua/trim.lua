-- Forgets what happened to positions so long ago that no count can be judged by it any more; some positions a call.
--@verb trim
--@flags allow-oom
--@include builtins state clock card claims record batch
--@key meta inv:{p}:meta hash r
--@key moves inv:{p}:moves zset rw
--@arg history_ms how long movements are kept
--@arg request... positions(H) moves(H): how many at the most; then the position behind which to begin, none for the
--  first
--@answer trimmed [how many movements, the position that was looked at last: empty when there is no other]

local function trim(keys, args)
  begin_batch(keys[1])
  local oldest_ms, answer, gone = now_ms - tonumber(args[1]), begin_answer(#args - 1), {}
  for i = 2, #args do
    local positions, limit, at = unpack_struct('<HH', args[i])
    local name, before = string_sub(args[i], at), #gone
    repeat
      local from = name == '' and '-' or '(' .. name .. '\255'
      local first = redis.call('ZRANGE', keys[2], from, '+', 'BYLEX', 'LIMIT', '0', '1')[1] or ''
      name = string_sub(first, 1, -MOVES.TAIL_SIZE - 1)
      if name ~= '' then
        local members = redis.call('ZRANGE', keys[2], '[' .. name, '(' .. name .. pack('>I6', oldest_ms), 'BYLEX',
          'LIMIT', '0', string_format('%d', limit + before - #gone))
        for j = 1, #members do
          gone[#gone + 1] = members[j]
        end
      end
      positions = positions - 1
    until name == '' or positions <= 0 or #gone - before >= limit
    answer[i + 2] = { #gone - before, name }
  end
  --@writes
  for first = 1, #gone, 1000 do
    redis.call('ZREM', keys[2], unpack_table(gone, first, math_min(first + 999, #gone)))
  end
  return answer
end
