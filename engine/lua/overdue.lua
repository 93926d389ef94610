-- Lists what has fallen due, so that a sweeper can name the keys that expire needs.
--@verb overdue
--@flags no-writes
--@include builtins state clock position record batch
--@key meta inv:{p}:meta hash r
--@key operations inv:{p}:ops hash r
--@key due inv:{p}:due zset r
--@arg request... limit(H) memories(B) until(I6): how many entries at the most; memories to forget instead of
--  holds; due until then, 0 for now
--@answer entries [[entry, record, ...], ...]: an entry of the index; for holds (first byte 'h') then the
--  record of each id in it, empty where it is gone
local MAX_RECORDS = 512 -- of one answer; an entry is never cut

local function list_overdue(keys, request)
  local limit, memories, until_ms = unpack_struct('<HBI6', request)
  until_ms = until_ms > 0 and math_min(until_ms, now_ms) or now_ms
  local behind = memories == 1 and BEHIND_HOLDS or 0
  local entries = redis.call('ZRANGE', keys[3], string_format('%d', behind),
    string_format('%d', behind + until_ms), 'BYSCORE', 'LIMIT', 0, limit)
  local answer, records = {}, 0
  for i = 1, #entries do
    local ids = split_ids(entries[i])
    records = records + #ids
    if i > 1 and records > MAX_RECORDS then
      return answer
    end
    local listed = { entries[i] }
    if memories == 0 then
      local found = redis.call('HMGET', keys[2], unpack_table(ids))
      for j = 1, #found do
        listed[j + 1] = found[j] or ''
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
    answer[i + 2] = list_overdue(keys, args[i])
  end
  --@writes
  return answer
end
