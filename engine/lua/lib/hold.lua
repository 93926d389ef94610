-- Holding stock for new reservations, and for the parts of one: what their verbs have in common.

local request_ttl = {} -- by the index of the request

-- Reads the ids and lines of all requests, then what they name, in one call each. Returns the records.
local function load_requests(args)
  local request_id, request_ttl, first_line, last_line, line_quantity, line_place, line_card, card_index =
    request_id, request_ttl, first_line, last_line, line_quantity, line_place, line_card, card_index
  local unpack_struct = unpack_struct
  local n = 0
  for i = 2, #args do
    local id, ttl, count, quantity, place, sku, cursor =
      unpack_struct('<c12xxxxxxxxI4xxxxBI5Bc0Hc0', args[i], AT.ID)
    n = n + 1
    request_id[i], request_ttl[i], first_line[i] = id, ttl, n
    line_quantity[n], line_place[n], line_card[n] = quantity, place, card_index[sku] or want_card(sku)
    while count > 1 do
      n, count = n + 1, count - 1
      line_quantity[n], line_place[n], sku, cursor = unpack_struct(POSITION_FORMAT, args[i], cursor)
      line_card[n] = card_index[sku] or want_card(sku)
    end
    last_line[i] = n
  end
  line_count = n
  read_cards()
  open_lines()
  return redis.call('HMGET', key_of.operations, unpack_table(request_id, 2, #args))
end

-- Whether all lines of a request are stocked and have enough.
local function can_hold(first, last)
  for n = first, last do
    local position = line_position[n]
    if not position or not fits(position, line_quantity[n]) then
      return false
    end
  end
  return true
end

-- Why the lines cannot be held.
local function name_refusal(first, last)
  local missing, unknown, short
  for n = first, last do
    local position, quantity = line_position[n], line_quantity[n]
    if not position then
      missing = missing or { 'not_stocked', last_seq }
      missing[#missing + 1] = n - first
      if not text_of[line_card[n]] then
        unknown = unknown or { 'sku_not_found', last_seq }
        unknown[#unknown + 1] = n - first
      end
    elseif not fits(position, quantity) then
      short = short or { 'insufficient_stock', last_seq }
      local size = #short
      short[size + 1], short[size + 2], short[size + 3] = n - first, available_units(position), quantity
    end
  end
  return unknown or missing or short
end

-- A refusal of the lines, unless giving back what has lapsed makes room for them.
local function refuse(first, last, retention_ms, requests)
  local refusal = name_refusal(first, last)
  if refusal[1] ~= 'insufficient_stock' then
    return refusal
  elseif make_room(retention_ms, requests) then
    refusal = not can_hold(first, last) and name_refusal(first, last)
  end
  return refusal and sees_more_overdue and { 'overdue' } or refusal
end

-- Moves the lines' units into `held` and claims them; returns the numbers of the blocks.
local function hold_lines(first, last, id)
  local blocks = ''
  for n = first, last do
    local position = line_position[n]
    held_of[position] = held_of[position] + line_quantity[n]
    mark_changed(position)
    blocks = blocks .. add_claim(card_of(position), id)
  end
  return blocks
end
