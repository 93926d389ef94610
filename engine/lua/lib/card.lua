-- The card of a SKU: one field of the partition's stock hash, with the counters of all its locations and
-- the ids of the reservations that have open units there. Numbers are little-endian:
--   form (1) | places (2) | size of the names (2) | first (3) | block (3)
--   names, for each place: \n location = index (2)
--   counters, for each place: on_hand, held, allocated, unsellable and, once more is asked of it than to be
--     sold, those of POLICY: safety stock, backorder limit, units that fences keep, low-stock band, inbound
--     units, flags, units of holds that may move to another place, units promised of what is inbound
--   claims: ids of 12 bytes, oldest promise first
-- The form tells how many counters of how many bytes a place has: 4 bytes until one of them needs 7 (good
-- for 3.6e16, our bound is 1e15). A place's text, as callers send it, is what stands in the names: the
-- line feed before and the sign behind it cannot be part of a location.
--
-- Claims beyond BLOCK_SIZE move to a field of their own, `field \n\n block`. The fields from `first` up to
-- `block` may exist. A SKU at more than 32 locations is divided: its field then holds nothing but
-- the form DIVIDER, and `sku \n page` has the card of each page.
local CARD_HEAD, NAMES_AT = '<BHHI3c3', 12 -- the last is the block, as records take it
local COUNTERS = {
  [0] = '<i4i4i4i4', '<i7i7i7i7', '<i4i4i4i4i4i4i4i4i4i4i4i4', '<i7i7i7i7i7i7i7i7i7i7i7i7',
}
local STRIDE = { [0] = 16, 28, 48, 84 }
local CARD = { POLICY_FORM = 2, DIVIDER = 255, PAGES = 64, LAST_BLOCK = 16777215, MOST_PLACES_KNOWN = 10000 }
local NARROW = 2147483647 -- what 4 bytes hold, either sign
local BLOCK_SIZE = 192
local CLAIM_SIZE = 12
local POLICY = {
  SAFETY_STOCK = 1, BACKORDER_LIMIT = 2, FENCED = 3, LOW_STOCK = 4, INBOUND = 5, FLAGS = 6, FLOATING = 7,
  PREORDERED = 8,
  -- The flags of a place where some channel has a fence, full or used up, and of one whose policy is not inherited.
  FENCED_HERE = 1, OWN_POLICY = 2,
  UNLIMITED = 1e15, -- the backorder limit of what is not tracked; of that so many are shown as are in one line
  SHOWN_UNLIMITED = 1e9,
}

-- The index of the card that a field of the stock hash has; read with all others by `read_cards`.
local function want_card(field)
  local card = card_index[field]
  if not card then
    card = card_count + 1
    card_count = card
    card_index[field], field_of[card], first_place[card], is_written[card] = card, field, false, false
  end
  return card
end

local function read_cards()
  if cards_read == 0 and card_count <= 1000 and card_count > 0 then
    text_of, cards_read = redis.call('HMGET', key_of.stock, unpack_table(field_of, 1, card_count)), card_count
    return
  end
  while cards_read < card_count do
    local last = math_min(card_count, cards_read + 1000)
    local texts = redis.call('HMGET', key_of.stock, unpack_table(field_of, cards_read + 1, last))
    for i = 1, last - cards_read do
      text_of[cards_read + i] = texts[i]
    end
    cards_read = last
  end
end

-- A divided SKU's card has nothing but its head, and that is cut short.
local function is_divided(card)
  local text = text_of[card]
  return text and #text < NAMES_AT
end

-- The number of the page that has a place, as the end of the page's field. Those that were asked for outlive a call.
function CARD.page_of(place)
  local page = RUN.pages[place]
  if not page then
    local hash, bytes = 0, { string_byte(place, 2, -2) }
    for i = 1, #bytes do
      hash = (hash * 31 + bytes[i]) % 65536
    end
    page = '\n' .. hash % CARD.PAGES
    RUN.page_count = RUN.page_count + 1
    if RUN.page_count > CARD.MOST_PLACES_KNOWN then
      RUN.pages, RUN.page_count = {}, 1
    end
    RUN.pages[place] = page
  end
  return page
end

-- The card that has a place of a SKU, given the SKU's own card.
local function page_card(card, place)
  return want_card(field_of[card] .. CARD.page_of(place))
end

-- The page that has a place of a divided SKU. The first time it reads the pages of all lines in one call, and
-- from then on those lines know their pages.
local function find_page(card, place)
  local page = page_card(card, place)
  if page <= cards_read then
    return page
  end
  local pages = {}
  for n = 1, line_count do
    if is_divided(line_card[n]) then
      pages[n] = page_card(line_card[n], line_place[n])
    end
  end
  read_cards()
  for n, found in pairs(pages) do
    line_card[n] = text_of[found] and found or line_card[n]
  end
  return page
end

local function open_card(card, text)
  local form, places, names, _, block = unpack_struct(CARD_HEAD, text)
  local counters = NAMES_AT + names
  text_of[card], form_of[card], block_of[card], added_claims[card] = text, form, block, false
  claim_room[card] = BLOCK_SIZE - 1 - #text + counters + places * STRIDE[form]
  return counters, form
end

local function read_counters(position, text, form, offset)
  offset_of[position], is_changed[position] = offset, false
  if form == 0 then
    hand_of[position], held_of[position], allocated_of[position], unsellable_of[position] =
      unpack_struct('<i4i4i4i4', text, offset)
    policy_of[position] = false
    return
  end
  local policy = {}
  hand_of[position], held_of[position], allocated_of[position], unsellable_of[position],
    policy[1], policy[2], policy[3], policy[4], policy[5], policy[6], policy[7], policy[8] =
      unpack_struct(COUNTERS[form], text, offset)
  policy_of[position] = form >= CARD.POLICY_FORM and policy
end

-- A position that is not the first of its card.
local function load_other(card, place, text)
  local others = other_positions[card]
  if not others then
    others = {}
    other_positions[card] = others
  elseif others[place] then
    return others[place]
  end
  local names = unpack_struct('<xxxH', text)
  local form, counters = form_of[card], NAMES_AT + names
  local _, last = string_find(text, place, NAMES_AT, true)
  if not last or last > counters - 3 then
    return false
  end
  local low, high = string_byte(text, last + 1, last + 2)
  others_count = others_count - 1
  others[place], other_card[others_count] = others_count, card
  read_counters(others_count, text, form, counters + (low + 256 * high) * STRIDE[form])
  return others_count
end

-- The index of a position, given its SKU's card; false where the location does not stock the SKU.
local function load_position(card, place)
  local known = first_place[card]
  if known == place then
    return card
  end
  local text = text_of[card]
  if not text then
    return false
  elseif #text < NAMES_AT then
    return load_position(find_page(card, place), place)
  elseif known then
    return load_other(card, place, text)
  end
  local counters, form = open_card(card, text)
  local _, last = string_find(text, place, NAMES_AT, true)
  if not last or last > counters - 3 then
    return false
  end
  local low, high = string_byte(text, last + 1, last + 2)
  first_place[card] = place
  read_counters(card, text, form, counters + (low + 256 * high) * STRIDE[form])
  return card
end

-- Finds the positions of all lines: what `load_position` does, in one loop for the usual case.
local function open_lines()
  local line_card, line_place, line_position, first_place, text_of = -- locals are faster
    line_card, line_place, line_position, first_place, text_of
  local form_of, block_of, added_claims, claim_room, offset_of, is_changed, policy_of =
    form_of, block_of, added_claims, claim_room, offset_of, is_changed, policy_of
  local hand_of, held_of, allocated_of, unsellable_of = hand_of, held_of, allocated_of, unsellable_of
  local unpack_struct, string_find, string_byte = unpack_struct, string_find, string_byte
  for n = 1, line_count do
    local card, place = line_card[n], line_place[n]
    local known, text = first_place[card], text_of[card]
    if known == place then
      line_position[n] = card
    elseif known or not text or string_byte(text) > 0 then
      line_position[n] = load_position(card, place)
    else
      local _, places, names, _, block = unpack_struct(CARD_HEAD, text)
      local at = NAMES_AT + names
      local _, last = string_find(text, place, NAMES_AT, true)
      if not last or last > at - 3 then
        line_position[n] = false
      else
        claim_room[card] = BLOCK_SIZE - 1 - #text + at + places * 16
        if places > 1 then
          local low, high = string_byte(text, last + 1, last + 2)
          at = at + (low + 256 * high) * 16
        end
        hand_of[card], held_of[card], allocated_of[card], unsellable_of[card] =
          unpack_struct('<i4i4i4i4', text, at)
        form_of[card], block_of[card], added_claims[card], policy_of[card] = 0, block, false, false
        offset_of[card], is_changed[card], first_place[card] = at, false, place
        line_position[n] = card
      end
    end
  end
end

local function mark_written(card)
  if not is_written[card] then
    is_written[card] = true
    written_count = written_count + 1
    written_cards[written_count] = card
  end
end

local function card_of(position)
  return position > 0 and position or other_card[position]
end

local function mark_changed(position)
  if not is_changed[position] then
    is_changed[position] = true
    changed_count = changed_count + 1
    changed[changed_count] = position
  end
end

local function backorder_limit(position)
  local policy = policy_of[position]
  return policy and policy[POLICY.BACKORDER_LIMIT] or 0
end

-- What may still be promised before the backorder limit is touched; negative when over-promised.
local function free_units(position)
  local free = hand_of[position] - unsellable_of[position] - allocated_of[position] - held_of[position]
  local policy = policy_of[position]
  return policy and free + policy[POLICY.PREORDERED] - policy[POLICY.SAFETY_STOCK] - policy[POLICY.FENCED] or free
end

local function fits(position, quantity)
  local free = hand_of[position] - unsellable_of[position] - allocated_of[position] - held_of[position]
  local policy = policy_of[position]
  if policy then
    free = free + policy[POLICY.PREORDERED] - policy[POLICY.SAFETY_STOCK] - policy[POLICY.FENCED]
      + policy[POLICY.BACKORDER_LIMIT]
  end
  return free >= quantity
end

-- Units that come, or are given back, go to those who wait for what is inbound before anybody else.
function POLICY.settle(position)
  local policy = policy_of[position]
  if policy and policy[POLICY.PREORDERED] > 0 then
    local room = math_max(0, free_units(position) + policy[POLICY.BACKORDER_LIMIT])
    policy[POLICY.PREORDERED] = policy[POLICY.PREORDERED] - math_min(policy[POLICY.PREORDERED], room)
  end
end

-- The number that we show: never below what may be back-ordered, and of what is not tracked always the same.
local function available_units(position)
  local limit = backorder_limit(position)
  return limit >= POLICY.UNLIMITED and POLICY.SHOWN_UNLIMITED or math_max(free_units(position), -limit)
end

-- The parts of a card as it stands: form, names, first, block, counters, claims.
local function split_card(card)
  local text = text_of[card]
  local form, places, names, first, block = unpack_struct('<BHHI3I3', text)
  local counters = NAMES_AT + names
  local claims = counters + places * STRIDE[form]
  return form, string_sub(text, NAMES_AT, counters - 1), first, block,
    string_sub(text, counters, claims - 1), string_sub(text, claims) .. (added_claims[card] or '')
end

-- The numbers of the oldest block that may be stored and of the one that the card itself is.
local function blocks_of(card)
  return unpack_struct('<I3I3', text_of[card], 6)
end

-- Gives a card new parts. The positions that were read of it keep their indexes.
local function rebuild_card(card, form, names, first, block, counters, claims)
  local before, stride_before
  if first_place[card] then
    local old_form, _, old_names = unpack_struct(CARD_HEAD, text_of[card])
    before, stride_before = NAMES_AT + old_names, STRIDE[old_form]
  end
  local stride = STRIDE[form]
  local after = open_card(card,
    pack('<BHHI3I3', form, #counters / stride, #names, first, block) .. names .. counters .. claims)
  mark_written(card)
  if first_place[card] then
    offset_of[card] = after + (offset_of[card] - before) / stride_before * stride
    for _, position in pairs(other_positions[card] or {}) do
      offset_of[position] = after + (offset_of[position] - before) / stride_before * stride
    end
  end
end

-- Gives every counter of a card 7 bytes.
local function widen_card(card)
  local form, names, first, block, counters, claims = split_card(card)
  local parts = {}
  for at = 1, #counters, STRIDE[form] do
    local a, b, c, d, e, f, g, h, i, j, k, l = unpack_struct(COUNTERS[form], counters, at)
    parts[#parts + 1] = form < CARD.POLICY_FORM and pack(COUNTERS[form + 1], a, b, c, d)
      or pack(COUNTERS[form + 1], a, b, c, d, e, f, g, h, i, j, k, l)
  end
  rebuild_card(card, form + 1, names, first, block, concat(parts), claims)
end

-- Gives every place of a card the counters of a policy, all at zero: those of its positions that were read
-- know theirs from then on.
function POLICY.add(card)
  local form, names, first, block, counters, claims = split_card(card)
  if form >= CARD.POLICY_FORM then
    return
  end
  local parts, stride, none = {}, STRIDE[form], string_rep('\0', STRIDE[form + 2] - STRIDE[form])
  for at = 1, #counters, stride do
    parts[#parts + 1] = string_sub(counters, at, at + stride - 1) .. none
  end
  rebuild_card(card, form + 2, names, first, block, concat(parts), claims)
  if first_place[card] then
    policy_of[card] = { 0, 0, 0, 0, 0, 0, 0, 0 }
    for _, position in pairs(other_positions[card] or {}) do
      policy_of[position] = { 0, 0, 0, 0, 0, 0, 0, 0 }
    end
  end
end

function POLICY.is_wide(policy)
  return policy and math_max(policy[POLICY.BACKORDER_LIMIT], policy[POLICY.SAFETY_STOCK], policy[POLICY.FENCED],
    policy[POLICY.INBOUND]) > NARROW
end

-- Puts a position's counters into its card, and behind it the claims that came in this call.
local function store_position(position)
  local card = card_of(position)
  local a, b, c, d = hand_of[position], held_of[position], allocated_of[position], unsellable_of[position]
  local form = form_of[card]
  if form % 2 == 0 and (math_max(a, -a, b, c, d, -d) > NARROW or POLICY.is_wide(policy_of[position])) then
    widen_card(card)
    form = form_of[card]
  end
  local text, at, policy, packed = text_of[card], offset_of[position], policy_of[position]
  if policy then
    packed = pack(COUNTERS[form], a, b, c, d, policy[1], policy[2], policy[3], policy[4], policy[5], policy[6],
      policy[7], policy[8])
  else
    packed = pack(COUNTERS[form], a, b, c, d)
  end
  text_of[card] = string_sub(text, 1, at - 1) .. packed .. string_sub(text, at + STRIDE[form])
  mark_written(card)
end

-- The fences that changed, as fields and values of the stock hash from `n` on: see terms.lua.
function POLICY.collect_fences(fields, n, gone)
  for field in pairs(RUN.changed_fences or {}) do
    local fences, parts = RUN.fences[field], {}
    for i = 1, #fences do
      local fence = fences[i]
      parts[i] = pack('<B', #fence.channel) .. fence.channel
        .. pack('<I6I6B', fence.remaining, fence.used, fence.spill)
    end
    if #parts > 0 then
      fields[n + 1], fields[n + 2] = field, concat(parts)
      n = n + 2
    else
      gone[#gone + 1] = field
    end
  end
  return n
end

-- All cards and blocks that changed, as fields and values of the stock hash; and the fields that are gone.
local function collect_stock()
  local hand_of, held_of, allocated_of, unsellable_of = hand_of, held_of, allocated_of, unsellable_of
  local form_of, text_of, offset_of, changed, pack, string_sub, fields, field_of, added_claims, is_written =
    form_of, text_of, offset_of, changed, pack, string_sub, stock_fields, field_of, added_claims, is_written
  local n, gone = 0, {}
  for i = 1, changed_count do
    local card = changed[i]
    local a, b, c, d = hand_of[card], held_of[card], allocated_of[card], unsellable_of[card]
    -- The usual case of `store_position`: nothing else of the card changes, and 4 bytes hold each counter.
    if form_of[card] == 0 and not is_written[card] and a >= 0 and a + b + c + d <= NARROW
      and not other_positions[card] then
      local text, at, added = text_of[card], offset_of[card], added_claims[card]
      fields[n + 1], fields[n + 2] = field_of[card], string_sub(text, 1, at - 1)
        .. pack('<i4i4i4i4', a, b, c, d) .. string_sub(text, at + 16) .. (added or '')
      n = n + 2
    else
      store_position(card)
    end
  end
  for i = 1, written_count do
    local card = written_cards[i]
    fields[n + 1], fields[n + 2] = field_of[card], text_of[card] .. (added_claims[card] or '')
    n = n + 2
  end
  for i = 1, #written_blocks do
    local field = written_blocks[i]
    if block_texts[field] == '' then
      gone[#gone + 1] = field
    else
      fields[n + 1], fields[n + 2] = field, block_texts[field]
      n = n + 2
    end
  end
  if RUN.changed_fences then
    n = POLICY.collect_fences(fields, n, gone)
  end
  return fields, n, gone
end
