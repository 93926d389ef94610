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

-- Gives back about so many of the holds that are due; how many there were, and whether there are more. Their
-- lines get the indexes from `at` on.
local function lapse_due(limit, retention_ms, at)
  local ids, count = {}, 0
  local more = list_due(0, limit, ids)
  load_operations(ids)
  load_lines(ids, at)
  local request = {
    retention_ms = retention_ms, operation = NO_OPERATION, fingerprint = '', known = UNKNOWN_REVISION,
  }
  for i = 1, #ids do
    local index = at + i - 1
    local raw = first_line[index] and remembered[ids[i]]
    local deadline_ms, state = 0, STATE.RELEASED
    if raw then
      deadline_ms, state = unpack_struct('<I6xxxxxxxxxxxxxB', raw, #raw - HEAD_SIZE + 15)
    end
    if state == STATE.HELD and deadline_ms <= now_ms then
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
