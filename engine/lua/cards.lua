-- Reads the cards of SKUs, as they stand.
--@verb cards
--@flags no-writes
--@include builtins state clock card claims record batch
--@key meta inv:{p}:meta hash r
--@key due inv:{p}:due zset r
--@key stock inv:{p}:stock hash r
--@arg request... swept(B), then the SKU
--@answer overdue [word]: holds have lapsed that are still counted; sweep, then repeat with swept = 1
--@answer card string: see lib/card.lua; empty where the SKU is not known
--@answer cards [pages, card, ...]: of a divided SKU

local function read_all_pages(sku)
  local fields = {}
  for page = 0, CARD.PAGES - 1 do
    fields[page + 1] = sku .. '\n' .. page
  end
  local texts, pages = redis.call('HMGET', key_of.stock, unpack_table(fields)), { CARD.PAGES }
  for i = 1, CARD.PAGES do
    pages[#pages + 1] = texts[i] or nil
  end
  return pages
end

local function cards(keys, args)
  begin_batch(keys[1], nil, keys[2], nil, keys[3])
  local answer, overdue, skus = begin_answer(#args), has_overdue(), {}
  for i = 1, #args do
    skus[i] = string_sub(args[i], 2)
  end
  local texts = redis.call('HMGET', key_of.stock, unpack_table(skus))
  for i = 1, #args do
    local text = texts[i]
    if not text then
      answer[i + 3] = ''
    elseif overdue and string_byte(args[i]) == 0 then
      answer[i + 3] = { 'overdue' }
    else
      answer[i + 3] = string_byte(text) == CARD.DIVIDER and read_all_pages(skus[i]) or text
    end
  end
  --@writes
  return answer
end
