-- Brings a basket's part to where the basket is: which lines it has here, and how many of their units are held,
-- committed, fulfilled, released.
--@verb follow
--@flags allow-oom
--@include builtins state clock card claims record batch terms steps parts replan offers
--@key meta inv:{p}:meta hash rw
--@key operations inv:{p}:ops hash rw
--@key due inv:{p}:due zset rw
--@key log inv:{p}:log stream w
--@key stock inv:{p}:stock hash rw
--@key moves inv:{p}:moves zset w
--@arg retention_ms how long a finished part is remembered
--@arg request... id(12) followed(H, I7) plan, for each position of it held(I5) committed(I5) fulfilled(I5) released(I5);
--  a plan without positions: the basket has nothing here
--@answer missing [word]: there is no such part
--@answer repeated [word]: its units are where they should be, or it has followed further
--@answer followed integer: the sequence of the effect
--@event replanned id(12) operation(12) size(I4) record
--@event follow id(12) operation(12) route(H) plan positions with progress(B) tail whole(B) deltas followed(H, I7)

local FOLLOW = { PLAN = 22, NOTHING = { held = 0, committed = 0, fulfilled = 0, released = 0 } }

-- The lines that a part shall have, with their units; and whether these are the lines it has. Where the basket has
-- nothing here the part keeps its own, of which nothing is open.
function FOLLOW.read_asked(args, raw)
  local lines, cursor = REPLAN.read_plan(args, FOLLOW.PLAN)
  local units, is_same_plan = 0, string_sub(args, FOLLOW.PLAN, cursor - 1)
    == string_sub(raw, PLAN_AT, PLAN_AT + 1 + unpack_struct('<H', raw, PLAN_AT))
  for i = 1, #lines do
    local line = lines[i]
    line.held, line.committed, line.fulfilled, line.released, cursor = unpack_struct('<I5I5I5I5', args, cursor)
    units = units + line.held + line.committed + line.fulfilled
  end
  if is_same_plan or units > 0 then
    return lines, is_same_plan
  end
  lines = REPLAN.read(raw)
  for i = 1, #lines do
    local line = lines[i]
    line.released, line.held, line.committed = line.released + REPLAN.open_units(line), 0, 0
  end
  return lines, true
end

-- What a part has given up, or what has left it, does not come back: others may have those units. A basket that lost
-- its newest steps may tell of earlier ones; then its line here becomes what the part can still have of it. Whether so.
function FOLLOW.cut(line, held, committed, fulfilled, released)
  local told, had = line.held + line.committed + line.fulfilled, held + committed + fulfilled
  local left = math_max(math_min(line.fulfilled, had), fulfilled)
  local open = math_max(math_min(told, had) - left, 0)
  local kept = math_min(line.held, held, open)
  if kept == line.held and open - kept == line.committed and left == line.fulfilled then
    return false
  end
  line.released = math_min(math_max(line.released + told - open - left, released), line.quantity - open - left)
  line.held, line.committed, line.fulfilled = kept, open - kept, left
  return true
end

-- Gives a part other lines. What has left since then is still there for now: it leaves in the step that comes after.
function FOLLOW.rearrange(id, raw, asked, rest, request)
  local lines, known, before = {}, {}, REPLAN.read(raw)
  for i = 1, #before do
    known[before[i].place .. before[i].sku] = before[i]
  end
  for i = 1, #asked do
    local line = asked[i]
    local had = known[line.place .. line.sku] or FOLLOW.NOTHING
    local fulfilled = had.fulfilled
    FOLLOW.cut(line, had.held, had.committed, fulfilled, had.released)
    lines[i] = {
      sku = line.sku, place = line.place, quantity = line.quantity, held = line.held,
      committed = line.committed + line.fulfilled - fulfilled, fulfilled = fulfilled, released = line.released,
    }
  end
  REPLAN.apply(REPLAN.open(id, raw, lines), request, rest)
end

-- Moves the units of a part; whether any were not where they should be, or cannot be.
function FOLLOW.move_units(part, asked)
  local units, has_news = part.units, false
  for i = 1, #part.quantities do
    local line = asked[i]
    if FOLLOW.cut(line, units.held[i], units.committed[i], units.fulfilled[i], units.released[i]) then
      has_news = true
    end
    line.released = math_max(line.released, units.released[i])
    local by_held, by_committed = line.held - units.held[i], line.committed - units.committed[i]
    local by_fulfilled = line.fulfilled - units.fulfilled[i]
    units.held[i], units.committed[i] = line.held, line.committed
    units.fulfilled[i], units.released[i] = line.fulfilled, line.released
    if by_held ~= 0 or by_committed ~= 0 or by_fulfilled ~= 0 then
      change_counters(part, i, by_held, by_committed, -by_fulfilled)
      has_news = true
    end
  end
  return has_news
end

function FOLLOW.decide(args, index, request)
  local id, epoch, seq = unpack_struct('<c12HI7', args)
  local raw = remembered[id]
  if not first_line[index] then
    return { 'missing' }
  end
  local prior_epoch, prior_seq = followed_by(raw)
  if prior_epoch > epoch or prior_epoch == epoch and prior_seq >= seq then
    return { 'repeated' }
  end
  swept_entries[#swept_entries + 1] = repair_entry(id)
  if decode_head(raw).state > STATE.COMMITTED then
    return { 'repeated' }
  end
  local asked, is_same_plan = FOLLOW.read_asked(args, raw)
  local is_rearranged = not is_same_plan or OFFERS.is_offered(raw)
  if is_rearranged then
    FOLLOW.rearrange(id, raw, asked, OFFERS.rest(raw, epoch, seq), request)
    load_lines({ id }, index, KIND.PART)
  end
  local part = open_reservation(id, index)
  if part.head.state > STATE.COMMITTED or not FOLLOW.move_units(part, asked) then
    return is_rearranged and last_seq or { 'repeated' }
  end
  part.rest = pack('<HI7', epoch, seq)
  close_step(part, VERB.FOLLOW, request)
  return last_seq
end

local function follow(keys, args)
  begin_batch(keys[1], keys[2], keys[3], keys[4], keys[5], keys[6])
  local answer, ids = begin_answer(#args - 1), {}
  local request = {
    retention_ms = tonumber(args[1]), operation = NO_OPERATION, fingerprint = NO_FINGERPRINT, known = UNKNOWN_REVISION,
  }
  for i = 2, #args do
    ids[i - 1] = string_sub(args[i], 1, OPERATION_SIZE)
  end
  load_operations(ids)
  load_lines(ids, 2, KIND.PART)
  for i = 2, #args do
    answer[i + 2] = FOLLOW.decide(args[i], i, request)
  end
  end_answer(answer)
  --@writes
  write_batch()
  return answer
end
