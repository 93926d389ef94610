-- Writes or deletes the settings of a location in one partition.
--@verb save_location
--@flags
--@include builtins state clock card claims record batch
--@key meta inv:{p}:meta hash rw
--@key locations inv:{p}:locations hash rw
--@key log inv:{p}:log stream w
--@key stocked inv:{p}:stocked hash r
--@arg request... location(1 + n), then its settings as the caller packed them: none to delete
--@answer location_not_found [word, seq]
--@answer location_in_use [word, seq]: it cannot be deleted while positions exist there
--@answer unchanged [word, seq]
--@answer saved integer: the sequence of the effect
--@event location location(1 + n) settings
local settings_of -- location -> settings, or false where they were deleted

local function decide_location(keys, request)
  local place, cursor = unpack_struct('<Bc0', request)
  local settings = string_sub(request, cursor)
  local current = settings_of[place]
  if current == nil then
    current = redis.call('HGET', keys[2], place)
  end
  if settings == '' then
    if not current then
      return { 'location_not_found', last_seq }
    elseif redis.call('HEXISTS', keys[4], place) == 1 then
      return { 'location_in_use', last_seq }
    end
  elseif settings == current then
    return { 'unchanged', last_seq }
  end
  settings_of[place] = settings ~= '' and settings
  add_event(pack('<BI3', VERB.LOCATION, #request) .. request)
  return next_sequence()
end

local function save_location(keys, args)
  begin_batch(keys[1], nil, nil, keys[3])
  settings_of = {}
  local answer = begin_answer(#args)
  for i = 1, #args do
    answer[i + 3] = decide_location(keys, args[i])
  end
  end_answer(answer)
  --@writes
  write_batch()
  for place, settings in pairs(settings_of) do
    if settings then
      redis.call('HSET', keys[2], place, settings)
    else
      redis.call('HDEL', keys[2], place)
    end
  end
  return answer
end
