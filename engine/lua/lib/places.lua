-- Making positions: a SKU that comes to a location for the first time.

local MAX_PLACES = 32 -- of a card that is not divided

-- Whether a remembered operation claims units on cards.
local function has_lines(raw)
  return raw and (string_byte(raw) == KIND.RESERVATION or string_byte(raw) == KIND.PART)
end

-- The positions of a record's plan: arrays of quantities, places and SKUs.
local function decode_plan(raw)
  local quantities, places, skus, cursor = {}, {}, {}, POSITIONS_AT
  for i = 1, string_byte(raw, POSITIONS_AT - 1) do
    quantities[i], places[i], skus[i], cursor = unpack_struct(POSITION_FORMAT, raw, cursor)
  end
  return quantities, places, skus
end

-- Adds a place to a card, with counters of zero; makes the card where there is none.
local function add_place(card, place)
  local form, names, first, block, counters, claims = 0, '', 0, 0, '', ''
  if text_of[card] then
    form, names, first, block, counters, claims = split_card(card)
  end
  rebuild_card(card, form, names .. place .. pack('<H', #counters / STRIDE[form]), first, block,
    counters .. string_rep('\0', STRIDE[form]), claims)
  return load_position(card, place)
end

-- The claims of a card, the oldest first, and the fields of its blocks.
local function list_claims(card)
  local ids, fields, texts = {}, {}, {}
  local _, _, first, block, _, claims = split_card(card)
  for number = first, block - 1 do
    fields[#fields + 1] = block_field(card, number)
  end
  for from = 1, #fields, 1000 do
    local to = math_min(from + 999, #fields)
    local stored = redis.call('HMGET', key_of.stock, unpack_table(fields, from, to))
    for i = from, to do
      texts[i] = block_texts[fields[i]] or stored[i - from + 1] or ''
      block_texts[fields[i]] = texts[i]
    end
  end
  texts[#texts + 1] = claims
  local all = concat(texts)
  for at = 1, #all, CLAIM_SIZE do
    ids[#ids + 1] = string_sub(all, at, at + CLAIM_SIZE - 1)
  end
  return ids, fields
end

-- The places of a card, in the order of their indexes.
local function list_places(names)
  local places, at = {}, 1
  while at <= #names do
    local last = string_find(names, '=', at, true)
    places[#places + 1] = string_sub(names, at, last)
    at = last + 3
  end
  return places
end

-- Puts a divided SKU's claim on the pages on which the reservation has open units.
local function deal_claim(card, sku, id)
  local raw = remembered[id]
  if not has_lines(raw) then
    return
  end
  local quantities, places, skus = decode_plan(raw)
  local units = decode_progress(raw, decode_head(raw), quantities)
  for i = 1, #places do
    if skus[i] == sku and units.held[i] + units.committed[i] > 0 then
      local page = page_card(card, places[i])
      add_claim(page, id)
      -- Into its text: whoever opens the page in this call reads nothing else.
      text_of[page] = text_of[page] .. (added_claims[page] or '')
      added_claims[page] = false
    end
  end
end

-- Puts what changed on a card into its text, so that nothing of it is read anew.
local function settle_card(card)
  local kept = 0
  for i = 1, changed_count do
    if card_of(changed[i]) == card then
      store_position(changed[i])
    else
      kept = kept + 1
      changed[kept] = changed[i]
    end
  end
  changed_count = kept
end

-- Divides a SKU whose card is full: its places go to pages, each with the claims that belong there.
local function divide_card(card)
  settle_card(card)
  local ids, fields = list_claims(card)
  local form, names, _, _, counters = split_card(card)
  local places = list_places(names)
  text_of[card], added_claims[card] = pack('<BH', CARD.DIVIDER, CARD.PAGES), false
  first_place[card], other_positions[card] = false, nil
  mark_written(card)
  for i = 1, #places do
    local page, at = page_card(card, places[i]), (i - 1) * STRIDE[form]
    local names_before, counters_before = '', ''
    if page > cards_read then
      -- A new page: nothing of it is stored that could be read.
      text_of[page], cards_read = false, page
    else
      _, names_before, _, _, counters_before = split_card(page)
    end
    rebuild_card(page, form, names_before .. places[i] .. pack('<H', #counters_before / STRIDE[form]), 0, 0,
      counters_before .. string_sub(counters, at + 1, at + STRIDE[form]), '')
  end
  load_operations(ids)
  for i = 1, #ids do
    deal_claim(card, field_of[card], ids[i])
  end
  for i = 1, #fields do
    change_block(fields[i], '')
  end
end

-- Makes the position of a SKU at a place, given the SKU's card.
local function make_position(card, place)
  local text = text_of[card]
  if text and not is_divided(card) then
    local _, places = unpack_struct('<BH', text)
    if places >= MAX_PLACES then
      divide_card(card)
    end
  end
  if is_divided(card) then
    card = page_card(card, place)
    read_cards()
  end
  return add_place(card, place)
end
