-- Reads the cards of SKUs and what is expected of them, as of one moment.
--@verb supplies
--@flags no-writes
--@include builtins state clock card claims record batch places
--@key meta inv:{p}:meta hash r
--@key due inv:{p}:due zset r
--@key stock inv:{p}:stock hash r
--@key inbound inv:{p}:inbound hash r
--@arg request... swept(B), then the SKU
--@answer overdue [word]: holds have lapsed that are still counted; sweep, then repeat with swept = 1
--@answer expected [cards, inbound]: a list of cards, none where the SKU is not known; a list of place, its supplies (see
--  supply.lua), place, ...: of places where something is expected

local function read_cards_of(sku)
  local text = redis.call('HGET', key_of.stock, sku)
  if not text then
    return {}
  elseif string_byte(text) ~= CARD.DIVIDER then
    return { text }
  end
  local fields, found = {}, {}
  for page = 0, CARD.PAGES - 1 do
    fields[page + 1] = sku .. '\n' .. page
  end
  local texts = redis.call('HMGET', key_of.stock, unpack_table(fields))
  for i = 1, CARD.PAGES do
    found[#found + 1] = texts[i] or nil
  end
  return found
end

local function read_inbound(inbound, cards, sku)
  local found = {}
  for i = 1, #cards do
    local _, _, names = unpack_struct(CARD_HEAD, cards[i])
    local places, fields = list_places(string_sub(cards[i], NAMES_AT, NAMES_AT + names - 1)), {}
    for j = 1, #places do
      fields[j] = places[j] .. sku
    end
    local supplies = redis.call('HMGET', inbound, unpack_table(fields))
    for j = 1, #places do
      if supplies[j] then
        found[#found + 1], found[#found + 2] = places[j], supplies[j]
      end
    end
  end
  return found
end

local function supplies(keys, args)
  begin_batch(keys[1], nil, keys[2], nil, keys[3])
  local answer, overdue = begin_answer(#args), has_overdue()
  for i = 1, #args do
    local sku = string_sub(args[i], 2)
    local cards = read_cards_of(sku)
    if #cards > 0 and overdue and string_byte(args[i]) == 0 then
      answer[i + 3] = { 'overdue' }
    else
      answer[i + 3] = { cards, read_inbound(keys[4], cards, sku) }
    end
  end
  --@writes
  return answer
end
