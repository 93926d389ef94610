-- Lists what has fallen due, so that a sweeper can name the keys that expire needs.
--@verb overdue
--@flags no-writes
--@include builtins state clock position record batch
--@key meta inv:{p}:meta hash r
--@key operations inv:{p}:ops hash r
--@key due inv:{p}:due zset r
--@arg request... limit(H): how many entries at the most
--@answer entries [[entry, record, ...], ...]: an entry of the index; for holds (first byte 'h') then the
--  record of each id in it, empty where it is gone
local function list_overdue(keys, limit)
  local answer = {}
  local entries = redis.call('ZRANGE', keys[3], '-inf', string_format('%d', now_ms),
    'BYSCORE', 'LIMIT', 0, limit)
  for i = 1, #entries do
    local entry = entries[i]
    local listed = { entry }
    if string_sub(entry, 1, 1) == 'h' then
      local records = redis.call('HMGET', keys[2], unpack_table(split_ids(entry)))
      for j = 1, #records do
        listed[j + 1] = records[j] or ''
      end
    end
    answer[i] = listed
  end
  return answer
end

local function overdue(keys, args)
  begin_batch(keys[1], keys[2], keys[3])
  local answer = begin_answer()
  for i = 1, #args do
    answer[i + 2] = list_overdue(keys, (unpack_struct('<H', args[i])))
  end
  --@writes
  return answer
end
