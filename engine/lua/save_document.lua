-- Stores a document: what its caller packed, under an id. Where it says so, effects on positions follow from it, which
-- somebody must see to; then whoever took the step says that they happened by storing it once more. Lists go by
-- entries of an index, which its caller names; of one that is over with all its effects it is noted since when.
--@verb save_document
--@flags
--@include builtins state clock card claims record batch entries
--@key meta inv:{p}:meta hash rw
--@key operations inv:{p}:ops hash rw
--@key due inv:{p}:due zset rw
--@key log inv:{p}:log stream w
--@key documents inv:{p}:documents hash rw
--@key listed inv:{p}:listed zset w
--@key ended inv:{p}:ended zset w
--@arg retention_ms how long an operation id is remembered
--@arg request... id(12) operation(12) fingerprint(8) version(I4) is_pending(B) is_over(B) added(H) of { entry(1 + n) }
--  gone(H) of { entry(1 + n) } content: the version that is replaced, 0 for none; whether effects follow; whether no step
--  is awaited. Without an operation id nothing is remembered
--@answer replayed [word, content]
--@answer idempotency_mismatch [word]
--@answer stale [word]: another version is stored
--@answer saved integer: the sequence of the effect
--@event document id(12) operation(12) version(I4) is_pending(B) content: the version that is stored from now on

local SEEN_TO_MS = 5000 -- how long whoever took a step is given to see to its effects
local DOCUMENT_ENTRIES_AT = 39 -- of a request
local documents_of -- id -> what is stored, or false where nothing is
local outboxes -- id -> whether effects follow from what this call stored
local endings -- id -> whether that is over, and no effects follow
local document_entries -- entry -> whether it is in the index from now on

local function decide_document(request, retention_ms)
  local id, operation, fingerprint, version, is_pending, is_over = unpack_struct('<c12c12c8I4BB', request)
  local prior = fingerprint ~= NO_FINGERPRINT and remembered[operation]
  if prior then
    if string_byte(prior) == KIND.MOVEMENT and string_sub(prior, 2, 9) == fingerprint then
      return { 'replayed', string_sub(prior, 10) }
    end
    return { 'idempotency_mismatch' }
  end
  local stored = documents_of[id]
  if version ~= (stored and unpack_struct('<I4', stored) or 0) then
    return { 'stale' }
  end
  local _, gone_at = note_entries(document_entries, request, DOCUMENT_ENTRIES_AT, true)
  local _, content_at = note_entries(document_entries, request, gone_at, false)
  local content = string_sub(request, content_at)
  local saved = pack('<I4B', version + 1, is_pending) .. content
  documents_of[id], outboxes[id] = saved, is_pending == 1
  endings[id] = is_over == 1 and is_pending == 0
  if fingerprint ~= NO_FINGERPRINT then
    remember_operation(operation, pack('<Bc8', KIND.MOVEMENT, fingerprint) .. content)
    add_due('p', now_ms + retention_ms, operation)
  end
  local body = id .. operation .. saved
  add_event(pack('<BI3', VERB.DOCUMENT, #body) .. body)
  return next_sequence()
end

local function save_document(keys, args)
  begin_batch(keys[1], keys[2], keys[3], keys[4])
  local retention_ms, ids, operations = tonumber(args[1]), {}, {}
  documents_of, outboxes, endings, document_entries = {}, {}, {}, {}
  for i = 2, #args do
    ids[i - 1], operations[i - 1] = unpack_struct('<c12c12', args[i])
  end
  load_operations(operations)
  local stored = redis.call('HMGET', keys[5], unpack_table(ids))
  for i = 1, #ids do
    documents_of[ids[i]] = stored[i]
  end
  local answer = begin_answer(#args - 1)
  for i = 2, #args do
    answer[i + 2] = decide_document(args[i], retention_ms)
  end
  end_answer(answer)
  --@writes
  write_batch()
  for id, is_pending in pairs(outboxes) do
    redis.call('HSET', keys[5], id, documents_of[id])
    if is_pending then
      redis.call('ZADD', keys[3], string_format('%d', BEHIND.OUTBOXES + now_ms + SEEN_TO_MS), 'd' .. id)
    else
      redis.call('ZREM', keys[3], 'd' .. id)
    end
    if endings[id] then
      redis.call('ZADD', keys[7], string_format('%d', now_ms), id)
    else
      redis.call('ZREM', keys[7], id)
    end
  end
  write_entries(keys[6], document_entries)
  return answer
end
