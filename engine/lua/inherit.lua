-- Brings positions without a policy of their own to the defaults of their items and locations.
--@verb inherit
--@flags
--@include builtins state clock card claims record batch defaults
--@key meta inv:{p}:meta hash rw
--@key log inv:{p}:log stream w
--@key stock inv:{p}:stock hash rw
--@key defaults inv:{p}:defaults hash r
--@key inheriting inv:{p}:inheriting zset w
--@arg request... place(1 + n) sku(2 + n); without a place a member of `inheriting`, all whose positions were brought
--@answer unchanged [word, seq]
--@answer saved integer: the sequence of the effect
--@event policy caller(3) place(1 + n) sku(2 + n) safety_stock(I7) backorder_limit(I7) low_stock(I7) is_own(B)

local function inherit(keys, args)
  begin_batch(keys[1], nil, nil, keys[2], keys[3])
  local places, skus, asked, done, answer = {}, {}, {}, {}, begin_answer(#args)
  for i = 1, #args do
    places[i], skus[i] = unpack_struct('<Bc0Hc0', args[i])
    if places[i] == '' then
      done[#done + 1] = skus[i]
    else
      asked[i] = want_card(skus[i])
    end
  end
  read_cards()
  for i = 1, #args do
    local position = asked[i] and load_position(asked[i], places[i])
    answer[i + 3] = position and DEFAULTS.inherit(keys[4], position, places[i], skus[i]) or { 'unchanged', last_seq }
  end
  end_answer(answer)
  --@writes
  write_batch()
  for i = 1, #done do
    redis.call('ZREM', keys[5], done[i])
  end
  return answer
end
