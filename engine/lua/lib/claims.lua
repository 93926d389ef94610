-- Claims: which reservations have open units on a card, in the order of their promises.

local function block_field(card, block)
  return field_of[card] .. '\n\n' .. string_format('%d', block)
end

local function read_block(field)
  local ids = block_texts[field]
  if not ids then
    ids = redis.call('HGET', key_of.stock, field) or ''
    block_texts[field] = ids
  end
  return ids
end

-- A field that is changed twice is written twice, with the same text.
local function change_block(field, ids)
  block_texts[field] = ids
  written_blocks[#written_blocks + 1] = field
end

-- Moves the claims of a full card to their block and begins the next one.
local function begin_block(card)
  local form, names, first, block, counters, claims = split_card(card)
  if block < CARD.LAST_BLOCK then
    change_block(block_field(card, block), claims)
    rebuild_card(card, form, names, first, block + 1, counters, '')
  end
end

-- Enters a claim as the newest of its card; returns the block that it belongs to.
local function add_claim(card, id)
  if newest_claim[card] ~= id then
    if claim_room[card] < CLAIM_SIZE then
      begin_block(card)
    end
    newest_claim[card], claim_room[card] = id, claim_room[card] - CLAIM_SIZE
    local added = added_claims[card]
    added_claims[card] = added and added .. id or id
  end
  return block_of[card]
end

-- Where an id stands among others that begin at `from`; nil where it does not.
local function find_claim(ids, from, id)
  local at = string_find(ids, id, from, true)
  while at and (at - from) % CLAIM_SIZE > 0 do
    at = string_find(ids, id, at + 1, true)
  end
  return at
end

-- The oldest block of a card is empty: the next that is not becomes the oldest.
local function advance_first(card)
  local form, names, first, block, counters, claims = split_card(card)
  repeat
    first = first + 1
  until first == block or read_block(block_field(card, first)) ~= ''
  rebuild_card(card, form, names, first, block, counters, claims)
end

local function cut_from_block(card, block, id)
  local field = block_field(card, block)
  local ids = read_block(field)
  local at = find_claim(ids, 1, id)
  if not at then
    return false
  end
  ids = string_sub(ids, 1, at - 1) .. string_sub(ids, at + CLAIM_SIZE)
  change_block(field, ids)
  if ids == '' then
    local first = blocks_of(card)
    if block == first then
      advance_first(card)
    end
  end
  return true
end

local function cut_from_card(card, id)
  local text, added = text_of[card], added_claims[card]
  if added then
    text, added_claims[card] = text .. added, false
  end
  local room = claim_room[card]
  local at = find_claim(text, room - BLOCK_SIZE + #text + 1, id)
  if at then
    text = string_sub(text, 1, at - 1) .. string_sub(text, at + CLAIM_SIZE)
    claim_room[card], newest_claim[card] = room + CLAIM_SIZE, nil
  end
  text_of[card] = text
  return at
end

-- Strikes a claim out, of a card that is written anyway because its counters change. It is in the block that
-- its record names, unless the card was divided since.
local function end_claim(card, id, block)
  if block == block_of[card] and cut_from_card(card, id) then
    return
  end
  local named = unpack_struct('<I3', block)
  local first, last = blocks_of(card)
  if named >= first and named < last and cut_from_block(card, named, id) or cut_from_card(card, id) then
    return
  end
  for other = last - 1, first, -1 do
    if cut_from_block(card, other, id) then
      return
    end
  end
end
