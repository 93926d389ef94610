-- Writes or deletes the settings of a location, a pool, a channel, an item or a key. Partition 0 decides, and counts its
-- decisions in `settings` of its meta hash. The others copy each decision, in that order: partitions with the same
-- number have the same settings. A copy is refused only where goods of this partition stand in the way.
--@verb save_setting
--@flags
--@include builtins state clock card claims record batch defaults
--@key meta inv:{p}:meta hash rw
--@key log inv:{p}:log stream w
--@key stock inv:{p}:stock hash r
--@key stocked inv:{p}:stocked hash r
--@key named inv:{p}:named hash rw
--@key changes inv:{p}:changes zset w
--@key locations inv:{p}:locations hash rw
--@key pools inv:{p}:pools hash rw
--@key channels inv:{p}:channels hash rw
--@key items inv:{p}:items hash rw
--@key api_keys inv:{p}:keys hash rw
--@key fenced inv:{p}:fenced hash r
--@key defaults inv:{p}:defaults hash rw
--@key inheriting inv:{p}:inheriting zset w
--@arg request... class(B) at(I6) to(I6) caller(3) id(2 + n), then its settings, none to delete: names(H) { name(2 + n) }
--  and what only the caller reads. `caller` is the mark of who asks, zeros for nobody. To decide, `to` is 0, and so is `at`
--  unless nothing may have changed since that number; a copy leads from the number `at` to the number `to`
--@answer stale [word, seq, number]: this partition is not at the number from which the copy follows, or since
--  which nothing may have changed
--@answer kit_in_itself [word, seq]
--@answer kit_too_deep [word, seq]
--@answer location_not_found [word, seq, which of the names, or 0 for what was to be deleted]
--@answer pool_not_found [word, seq, the same]
--@answer channel_not_found [word, seq, the same]
--@answer item_not_found [word, seq, the same]
--@answer key_not_found [word, seq, the same]
--@answer location_in_use [word, seq]: positions exist there, or a pool names it
--@answer pool_in_use [word, seq]: a channel names it
--@answer channel_in_use [word, seq]: it has fences
--@answer item_in_use [word, seq]: positions of it exist, or a kit has it
--@answer unchanged [word, seq, number]
--@answer saved [seq, number]
--@event setting class(B) number(I6) caller(3) id(2 + n) settings

local SETTINGS_AT = 6 -- of a class's hash among the keys
local CLASS = { LOCATION = 1, POOL = 2, CHANNEL = 3, ITEM = 4, KEY = 5 }
local NAMED_CLASS = { [2] = 1, [3] = 2, [4] = 4 } -- class -> of which class are the names in its settings
local EVENT_CALLER_AT = 14 -- of a request: caller, id and settings
local MOST_LEVELS = 4 -- of components in kits
local number_now -- of the last decision that this partition has
local saved -- class -> id -> settings, or false where they were deleted
local users_changed -- field of `named` -> text
local changed_at -- class and id -> number
local new_defaults, inheriting -- class and id -> packed defaults, or false; what positions have to follow -> number

local function read_setting(keys, class, id)
  local known = saved[class][id]
  if known == nil then
    return redis.call('HGET', keys[SETTINGS_AT + class], id)
  end
  return known
end

local function list_names(settings)
  local names, cursor = {}, 3
  if settings and settings ~= '' then
    for i = 1, unpack_struct('<H', settings) do
      names[i], cursor = unpack_struct('<Hc0', settings, cursor)
    end
  end
  return names
end

-- Who names something: ids, each with a line feed behind it, in the order in which they began to.
local function read_users(keys, class, id)
  local field = class .. '\n' .. id
  return users_changed[field] or redis.call('HGET', keys[5], field) or ''
end

local function list_users(keys, id)
  local users = {}
  for user in string.gmatch(read_users(keys, CLASS.ITEM, id), '[^\n]+') do
    users[#users + 1] = user
  end
  return users
end

local function list_components(keys, id)
  return list_names(read_setting(keys, CLASS.ITEM, id))
end

-- How many levels `list` leads through from the first one, itself counted; and whether it meets `id`. It stops when
-- there are too many.
local function count_levels(keys, first, list, id)
  local level, count = first, 0
  while next(level) and count <= MOST_LEVELS do
    local following = {}
    for name in pairs(level) do
      if name == id then
        return count, true
      end
      for _, other in ipairs(list(keys, name)) do
        following[other] = true
      end
    end
    level, count = following, count + 1
  end
  return count, false
end

-- Components of components must end, and soon.
local function check_kit(keys, id, names)
  local first = {}
  for i = 1, #names do
    first[names[i]] = true
  end
  local below, meets = count_levels(keys, first, list_components, id)
  if meets then
    return { 'kit_in_itself', last_seq }
  elseif below + count_levels(keys, { [id] = true }, list_users, nil) - 1 > MOST_LEVELS then
    return { 'kit_too_deep', last_seq }
  end
end

local function refuse_missing(class, which)
  if class == CLASS.LOCATION then
    return { 'location_not_found', last_seq, which }
  elseif class == CLASS.POOL then
    return { 'pool_not_found', last_seq, which }
  elseif class == CLASS.CHANNEL then
    return { 'channel_not_found', last_seq, which }
  elseif class == CLASS.KEY then
    return { 'key_not_found', last_seq, which }
  end
  return { 'item_not_found', last_seq, which }
end

local function check_names(keys, class, id, names)
  if class == CLASS.ITEM then
    return check_kit(keys, id, names)
  end
  for i = 1, #names do
    if not read_setting(keys, NAMED_CLASS[class], names[i]) then
      return refuse_missing(NAMED_CLASS[class], i)
    end
  end
end

-- Whether goods of this partition, or other settings, need it. A copy asks for goods alone.
local function check_use(keys, class, id, is_copy)
  local is_named = not is_copy and read_users(keys, class, id) ~= ''
  if class == CLASS.LOCATION and (is_named or redis.call('HEXISTS', keys[4], id) == 1) then
    return { 'location_in_use', last_seq }
  elseif class == CLASS.POOL and is_named then
    return { 'pool_in_use', last_seq }
  elseif class == CLASS.CHANNEL and redis.call('HEXISTS', keys[12], id) == 1 then
    return { 'channel_in_use', last_seq }
  elseif class == CLASS.ITEM and (is_named or redis.call('HEXISTS', keys[3], id) == 1) then
    return { 'item_in_use', last_seq }
  end
end

local function find_refusal(keys, class, id, settings, current, is_copy)
  if settings == '' then
    if is_copy or current then
      return check_use(keys, class, id, is_copy)
    end
    return refuse_missing(class, 0)
  elseif not is_copy then
    return check_names(keys, class, id, list_names(settings))
  end
end

-- Enters who names what: what is no longer named loses its user, what is newly named gains it.
local function change_names(keys, class, id, before, after)
  local was, is = {}, {}
  for i = 1, #before do
    was[before[i]] = true
  end
  for i = 1, #after do
    is[after[i]] = true
  end
  local named, line = NAMED_CLASS[class], id .. '\n'
  for name in pairs(was) do
    if not is[name] then
      local users = '\n' .. read_users(keys, named, name)
      local at = string_find(users, '\n' .. line, 1, true)
      users_changed[named .. '\n' .. name] = string_sub(users, 2, at) .. string_sub(users, at + #line + 1)
    end
  end
  for name in pairs(is) do
    if not was[name] then
      users_changed[named .. '\n' .. name] = read_users(keys, named, name) .. line
    end
  end
end

-- What a setting says of positions without a policy of their own; false where it says nothing.
local function pack_defaults(class, settings)
  if settings == '' or class ~= CLASS.LOCATION and class ~= CLASS.ITEM then
    return false
  end
  local cursor = 3
  for _ = 1, unpack_struct('<H', settings) do
    _, cursor = unpack_struct('<Hc0', settings, cursor)
  end
  local setting = cmsgpack.unpack(string_sub(settings, cursor))
  setting = type(setting) == 'table' and setting or {}
  local policy = type(setting.policy) == 'table' and setting.policy or {}
  local limit = setting.tracked == false and POLICY.UNLIMITED or policy.backorder_limit
  return (policy.safety_stock or limit or policy.low_stock) and pack(DEFAULTS.FORMAT,
    policy.safety_stock or DEFAULTS.ABSENT, limit or DEFAULTS.ABSENT, policy.low_stock or DEFAULTS.ABSENT) or false
end

-- Notes what a setting says from now on; whose positions it changes are brought to it later: see inherit.lua.
local function change_defaults(keys, class, id, settings)
  local field, packed = class .. '\n' .. id, pack_defaults(class, settings)
  local known = new_defaults[field]
  if known == nil then
    known = redis.call('HGET', keys[13], field)
  end
  if packed ~= known then
    new_defaults[field] = packed
    if settings ~= '' then
      inheriting[string_format('%d', number_now) .. '\n' .. field] = number_now
    end
  end
end

local function decide_setting(keys, request)
  local class, at, to, _, id, cursor = unpack_struct('<BI6I6c3Hc0', request)
  local settings, is_copy = string_sub(request, cursor), to > 0
  if (is_copy or at > 0) and at ~= number_now then
    if not is_copy or number_now < to then
      return { 'stale', last_seq, number_now }
    end
    return { 'unchanged', last_seq, number_now }
  end
  local current = read_setting(keys, class, id)
  if not is_copy and settings == current then
    return { 'unchanged', last_seq, number_now }
  end
  local refusal = find_refusal(keys, class, id, settings, current, is_copy)
  if refusal then
    return refusal
  end
  number_now = is_copy and to or number_now + 1
  change_names(keys, class, id, list_names(current), list_names(settings))
  saved[class][id] = settings ~= '' and settings
  changed_at[class .. '\n' .. id] = number_now
  change_defaults(keys, class, id, settings)
  local body = pack('<BI6', class, number_now) .. string_sub(request, EVENT_CALLER_AT)
  add_event(pack('<BI3', VERB.SETTING, #body) .. body)
  return { next_sequence(), number_now }
end

local function save_setting(keys, args)
  begin_batch(keys[1], nil, nil, keys[2])
  number_now = tonumber(redis.call('HGET', keys[1], 'settings') or 0)
  saved, users_changed, changed_at, new_defaults, inheriting = { {}, {}, {}, {}, {} }, {}, {}, {}, {}
  local answer = begin_answer(#args)
  for i = 1, #args do
    answer[i + 3] = decide_setting(keys, args[i])
  end
  end_answer(answer)
  --@writes
  write_batch()
  if next(changed_at) then
    redis.call('HSET', keys[1], 'settings', string_format('%d', number_now))
  end
  for class = 1, #saved do
    for id, settings in pairs(saved[class]) do
      if settings then
        redis.call('HSET', keys[SETTINGS_AT + class], id, settings)
      else
        redis.call('HDEL', keys[SETTINGS_AT + class], id)
      end
    end
  end
  for field, users in pairs(users_changed) do
    if users ~= '' then
      redis.call('HSET', keys[5], field, users)
    else
      redis.call('HDEL', keys[5], field)
    end
  end
  for field, packed in pairs(new_defaults) do
    if packed then
      redis.call('HSET', keys[13], field, packed)
    else
      redis.call('HDEL', keys[13], field)
    end
  end
  for member, number in pairs(inheriting) do
    redis.call('ZADD', keys[14], number, member)
  end
  for field, number in pairs(changed_at) do
    redis.call('ZADD', keys[6], number, field)
  end
  return answer
end
