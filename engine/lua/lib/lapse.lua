-- Giving back holds whose deadline has passed.

local function lapse_by_units(reservation, request)
  local units = reservation.units
  for i = 1, #reservation.quantities do
    local quantity = units.held[i]
    if quantity > 0 then
      shift_units(units, 'held', i, -quantity)
      change_counters(reservation, i, -quantity, 0, 0)
    end
  end
  close_step(reservation, VERB.EXPIRE, request)
end

local MOST_LINES = 2048 -- of one call, but an entry is never cut

-- Gives back about so many of the holds that are due; how many there were, and whether there are more. Their
-- lines get the indexes from `at` on.
local function lapse_due(limit, retention_ms, at)
  local listed, more = list_due(0, limit)
  local asked, ids, lines, count = {}, {}, 0, 0
  for i = 1, #listed do
    for j = 1, #listed[i].ids do
      asked[#asked + 1] = listed[i].ids[j]
    end
  end
  load_operations(asked)
  for i = 1, #listed do
    if lines >= MOST_LINES then
      more = true
      break
    end
    swept_entries[#swept_entries + 1] = listed[i].entry
    for j = 1, #listed[i].ids do
      local id = listed[i].ids[j]
      local raw = remembered[id]
      if raw and (string_byte(raw) == KIND.RESERVATION or is_basket(raw)) then
        ids[#ids + 1], lines = id, lines + string_byte(raw, POSITIONS_AT - 1)
      end
    end
  end
  load_lines(ids, at, KIND.RESERVATION)
  local request = {
    retention_ms = retention_ms, operation = NO_OPERATION, fingerprint = NO_FINGERPRINT, known = UNKNOWN_REVISION,
  }
  for i = 1, #ids do
    local index = at + i - 1
    local raw = remembered[ids[i]]
    local deadline_ms, state = unpack_struct('<I6xxxxxxxxxxxxxB', raw, #raw - HEAD_SIZE + 15)
    if state == STATE.PENDING and deadline_ms <= now_ms then
      abandon(open_basket_record(ids[i], index), request)
      repairs[ids[i]] = now_ms
    elseif state == STATE.HELD and deadline_ms <= now_ms then
      request.id = ids[i]
      if not move_whole(request, index, VERB.EXPIRE, STATE.HELD, STATE.EXPIRED, -1, 0, 0) then
        lapse_by_units(open_reservation(ids[i], index), request)
      end
      count = count + 1
    end
  end
  return count, more
end

-- Makes room before a request is refused for want of it: gives back what has lapsed, once a call. Returns
-- whether something came back.
local function make_room(retention_ms, requests)
  if has_swept then
    return false
  end
  has_swept = true
  if not has_overdue() then
    return false
  end
  local count
  count, sees_more_overdue = lapse_due(512, retention_ms, requests + 1)
  return count > 0
end
