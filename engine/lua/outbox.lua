-- Lists documents with effects that nobody has seen to in time. They stay listed until somebody did.
--@verb outbox
--@flags no-writes
--@include builtins state clock card claims record batch
--@key meta inv:{p}:meta hash r
--@key due inv:{p}:due zset r
--@arg request... limit(H) offset(I4): at the most how many, and how many of the first to leave out
--@answer found list of document ids, the oldest step first

-- The first entries whose moment lies in a range.
local function list_entries(due, first, last, limit)
  return redis.call('ZRANGE', due, first, last, 'BYSCORE', 'LIMIT', 0, limit)
end

local function outbox(keys, args)
  begin_batch(keys[1])
  local answer, now = begin_answer(#args), BEHIND.OUTBOXES + now_ms
  for i = 1, #args do
    local limit, offset = unpack_struct('<HI4', args[i])
    local found = {}
    local first, last = string_format('%d', BEHIND.OUTBOXES), string_format('%d', now)
    local entries = list_entries(keys[2], first, last, limit + offset)
    -- Further ahead than anybody files it: the clock has been set right since.
    local ahead = list_entries(keys[2], string_format('(%d', now + BEHIND.MOST_AHEAD), '+inf', limit + offset)
    for j = offset + 1, math_min(offset + limit, #entries + #ahead) do
      found[#found + 1] = string_sub(entries[j] or ahead[j - #entries], 2)
    end
    answer[i + 3] = found
  end
  --@writes
  return answer
end
