-- Brings a basket's part to where the basket is: how many of its units are held, committed, fulfilled, released.
--@verb follow
--@flags allow-oom
--@include builtins state clock card claims record batch terms steps parts
--@key meta inv:{p}:meta hash rw
--@key operations inv:{p}:ops hash rw
--@key due inv:{p}:due zset rw
--@key log inv:{p}:log stream w
--@key stock inv:{p}:stock hash rw
--@key moves inv:{p}:moves zset w
--@arg retention_ms how long a finished part is remembered
--@arg request... id(12) followed(H, I7) count(B) of { held(I5) committed(I5) fulfilled(I5) released(I5) }
--@answer missing [word]: there is no such part
--@answer repeated [word]: its units are where they should be, or it has followed further
--@answer followed integer: the sequence of the effect
--@event follow id(12) operation(12) route(H) plan positions with progress(B) tail whole(B) deltas followed(H, I7)

-- Moves the units of a part; whether any were not where they should be.
local function follow_units(args, at, part)
  local units, cursor, has_moved = part.units, at, false
  for i = 1, #part.quantities do
    local held, committed, fulfilled, released
    held, committed, fulfilled, released, cursor = unpack_struct('<I5I5I5I5', args, cursor)
    local by_held, by_committed = held - units.held[i], committed - units.committed[i]
    local by_fulfilled = fulfilled - units.fulfilled[i]
    units.held[i], units.committed[i], units.fulfilled[i], units.released[i] = held, committed, fulfilled, released
    if by_held ~= 0 or by_committed ~= 0 or by_fulfilled ~= 0 then
      change_counters(part, i, by_held, by_committed, -by_fulfilled)
      has_moved = true
    end
  end
  return has_moved
end

local function decide_follow(args, index, request)
  local id, epoch, seq, count, at = unpack_struct('<c12HI7B', args)
  if not first_line[index] or last_line[index] - first_line[index] + 1 ~= count then
    return { 'missing' }
  end
  local prior_epoch, prior_seq = followed_by(remembered[id])
  if prior_epoch > epoch or prior_epoch == epoch and prior_seq >= seq then
    return { 'repeated' }
  end
  swept_entries[#swept_entries + 1] = repair_entry(id)
  local part = open_reservation(id, index)
  if part.head.state > STATE.COMMITTED or not follow_units(args, at, part) then
    return { 'repeated' }
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
    answer[i + 2] = decide_follow(args[i], i, request)
  end
  end_answer(answer)
  --@writes
  write_batch()
  return answer
end
