-- One script call carries many independent requests. A batch reads through a working copy, so that
-- each request sees what those before it did; nothing is written until all are decided, and then every
-- card is written once. Refused requests leave the working copy untouched.
-- Whoever writes the ledger must have taken the books over: see take_over.lua. RUN.dataset is the mark of the data
-- set whose functions these are, RUN.this stands for it and the server's process. Engine time is the server's clock
-- less a skew (pace.lua), and never goes back (clock.lua); holds lapse up to RUN.horizons, to which a sweeper vouches
-- for it. Each is of one partition: another may know more of a step.
local function begin_batch(meta, operations, due, log, stock, moves)
  if not pack then
    bind_builtins()
  end
  local head = redis.call('HMGET', meta, 'epoch', 'seq', 'run', 'skew')
  if not head[1] then
    error({ err = 'NODATASET this server holds no Bincard data set' })
  end
  if not RUN.this then
    local _, _, run = string_find(redis.call('INFO', 'server'), 'run_id:(%w+)')
    RUN.this = run .. RUN.dataset
  end
  if log and head[3] ~= RUN.this then
    error({ err = 'NOTBEGUN another process had these books last' })
  end
  reset_state()
  key_of.meta, key_of.operations, key_of.due, key_of.log, key_of.stock = meta, operations, due, log, stock
  key_of.moves = moves
  local skew = tonumber(head[4] or 0)
  now_ms, epoch_now, last_seq = read_clock(meta, skew) - skew, tonumber(head[1]), tonumber(head[2])
  RUN.times[meta] = now_ms
  local floating = RUN.floating[meta]
  if floating and (floating.seq ~= last_seq or floating.epoch ~= epoch_now) then
    RUN.floating[meta] = nil -- counts of what was before somebody else wrote, or before a call that failed
  end
end

-- Loads the records of many operation ids in one call, except those that the call knows.
local function load_operations(ids)
  for first = 1, #ids, 1000 do
    local last = math_min(first + 999, #ids)
    local records = redis.call('HMGET', key_of.operations, unpack_table(ids, first, last))
    for i = first, last do
      local id = ids[i]
      if remembered[id] == nil then
        remembered[id] = records[i - first + 1]
      end
    end
  end
end

local function remember_operation(id, record)
  remembered[id] = record
  written[written_size + 1], written[written_size + 2] = id, record
  written_size = written_size + 2
end

-- Memories to forget stand in the deadline index behind all holds: whoever looks for lapsed holds never
-- meets them. Behind those stand repairs, each id by itself: one that is done is struck out. The place of each is
-- its moment and this much more: 2^50 and 2^51 ms. Nobody files a repair for a minute ahead. Last, at 2^52, come
-- documents with effects that nobody may have seen to.
local BEHIND = {
  MEMORIES = 1125899906842624, REPAIRS = 2251799813685248, MOST_AHEAD = 60000, OUTBOXES = 4503599627370496,
}

-- Files an id under the moment at which a sweeper must look at it: 'h' a hold to give back, 'p' a
-- memory to forget. All ids of a batch that share kind and moment make one entry of the index.
local function add_due(kind, at_ms, id)
  local when = kind == 'h' and at_ms or at_ms + BEHIND.MEMORIES
  local ids = due_ids[when]
  if not ids then
    ids = { kind, size = 1 }
    due_ids[when] = ids
  end
  local size = ids.size + 1
  ids[size], ids.size = id, size
end

-- Whether holds have lapsed that are still counted.
local function has_overdue()
  local first = redis.call('ZRANGE', key_of.due, 0, 0, 'WITHSCORES')
  return first[2] ~= nil and tonumber(first[2]) <= now_ms
end

-- The entries of the deadline index that are due, the oldest first, until they have `limit` ids, with the ids of
-- each; and whether there are more. `behind` is 0 for holds.
local function list_due(behind, limit)
  local until_ms = math_min(now_ms, RUN.horizons[key_of.meta] or now_ms)
  local last = string_format('%d', behind + until_ms)
  local entries = redis.call('ZRANGE', key_of.due, string_format('%d', behind), last, 'BYSCORE', 'LIMIT', 0, limit + 1)
  local listed, count = {}, 0
  for i = 1, #entries do
    if count >= limit then
      return listed, true
    end
    local ids = split_ids(entries[i])
    listed[i] = { entry = entries[i], ids = ids }
    count = count + #ids
  end
  -- A memory that nobody vouches for yet is not due yet; for a hold whoever wants its units waits.
  return listed, behind == 0 and until_ms < now_ms and redis.call('ZRANGE', key_of.due, '(' .. last,
    string_format('%d', behind + now_ms), 'BYSCORE', 'LIMIT', 0, 1)[1] ~= nil
end

local function repair_entry(id)
  return 'r' .. id
end

-- The entries of repairs that are due, the oldest first, at the most `limit`. One that stands further ahead than
-- anybody files it is due as well: it was filed while the clock was ahead, and engine time has been set right since.
local function list_repairs(limit)
  local entries = redis.call('ZRANGE', key_of.due, string_format('%d', BEHIND.REPAIRS),
    string_format('%d', BEHIND.REPAIRS + now_ms), 'BYSCORE', 'LIMIT', 0, limit)
  local ahead = redis.call('ZRANGE', key_of.due, string_format('(%d', BEHIND.REPAIRS + now_ms + BEHIND.MOST_AHEAD),
    string_format('(%d', BEHIND.OUTBOXES), 'BYSCORE', 'LIMIT', 0, limit - #entries)
  for i = 1, #ahead do
    entries[#entries + 1] = ahead[i]
  end
  return entries
end

local function next_sequence()
  last_seq = last_seq + 1
  return last_seq
end

-- Adds an event as the ledger takes it: kind (1), size (3), body.
local function add_event(event)
  event_count = event_count + 1
  events[event_count + 1] = event
end

local function set_fields(key, fields, size)
  for first = 1, size, 2000 do
    redis.call('HSET', key, unpack_table(fields, first, math_min(first + 1999, size)))
  end
end

local function delete_fields(key, fields)
  for first = 1, #fields, 1000 do
    redis.call('HDEL', key, unpack_table(fields, first, math_min(first + 999, #fields)))
  end
end

-- An entry that was there is moved: its id may have begun a new life with an earlier deadline. One that falls
-- due twice in a call counts at the later moment.
local function write_due()
  local latest, entries, size = {}, {}, 0
  for when, ids in pairs(due_ids) do
    local entry = concat(ids)
    latest[entry] = math_max(latest[entry] or 0, when)
  end
  for entry, when in pairs(latest) do
    entries[size + 1], entries[size + 2] = when, entry
    size = size + 2
  end
  for id, when in pairs(repairs) do
    entries[size + 1], entries[size + 2] = string_format('%d', BEHIND.REPAIRS + when), repair_entry(id)
    size = size + 2
  end
  if size > 0 then
    redis.call('ZADD', key_of.due, unpack_table(entries))
  end
end

-- The physical history: a sorted set of which all members have score 0, so that they stand in the order of their
-- bytes. A member is position (SKU and place), when it occurred (6), epoch (2) and sequence (7) of its event,
-- operation (12), signed units (7); numbers are big-endian. So what happened to a position stands together, in the
-- order of time. A SKU has no line feed and a location no sign: no position is the beginning of another.
local MOVES = { HEAD = '>I6HI7', TAIL_SIZE = 34, ID_SIZE = 12, UNITS = '>i7', UNITS_SIZE = 7 }

function MOVES.add(sku, place, occurred_ms, seq, id, units)
  local moves, size = RUN.moves, RUN.move_size + 2
  moves[size - 1], moves[size] = '0',
    sku .. place .. pack(MOVES.HEAD, occurred_ms, epoch_now, seq) .. id .. pack(MOVES.UNITS, units)
  RUN.move_size = size
end

-- Goods of a reservation's line leave, or of a part's.
function MOVES.add_line(n, id, units)
  local sku = field_of[line_card[n]]
  local page = string_find(sku, '\n', 1, true)
  MOVES.add(page and string_sub(sku, 1, page - 1) or sku, line_place[n], now_ms, last_seq, id, units)
end

-- Everything that a batch changes, written at once: ledger, sequence, cards, history, records, deadlines.
local function write_batch()
  if event_count > 0 then
    -- First what may refuse: a ledger that is ahead of the sequence takes no entry, and then nothing is written.
    local seq = string_format('%d', last_seq)
    events[1] = pack('<I6H', now_ms, event_count)
    redis.call('XADD', key_of.log, epoch_now .. '-' .. seq, 'e', concat(events, '', 1, event_count + 1))
    redis.call('HSET', key_of.meta, 'seq', seq)
    local fields, size, gone = collect_stock()
    set_fields(key_of.stock, fields, size)
    delete_fields(key_of.stock, gone)
    for first = 1, RUN.move_size, 2000 do
      redis.call('ZADD', key_of.moves, unpack_table(RUN.moves, first, math_min(first + 1999, RUN.move_size)))
    end
  end
  set_fields(key_of.operations, written, written_size)
  -- What is done with goes first: the same entry may be filed anew.
  for first = 1, #swept_entries, 1000 do
    redis.call('ZREM', key_of.due,
      unpack_table(swept_entries, first, math_min(first + 999, #swept_entries)))
  end
  write_due()
  if RUN.floating[key_of.meta] then
    RUN.floating[key_of.meta].seq = last_seq
  end
end

-- The answer of a batch: when it was decided, in which epoch, up to which sequence; then one answer for
-- each request.
local answer_list = {}

local function begin_answer(requests)
  answer_list[1], answer_list[2], answer_list[3], answer_list[requests + 4] = now_ms, epoch_now, last_seq, nil
  return answer_list
end

local function end_answer(answer)
  answer[3] = last_seq
  return answer
end
