-- The working copy of the call that runs: what it has read and what it is going to write. A server runs
-- one call at a time, and each begins with fresh state. These are upvalues because the interpreter
-- reaches one several times faster than a field of a table, and a reserve reaches for them some 70 times.
local meta_key, operations_key, due_key, log_key
local now_ms, epoch_now, last_seq
local sees_overdue -- whether lapsed holds are still on the books; nil until somebody asks

-- The positions that the call has read, by index.
local position_count
local index_of -- key \n location -> index, or false where the location does not stock the SKU
local key_of, place_of, hand_of, held_of, allocated_of, unsellable_of, policy_of
local changed, is_changed -- the indexes of positions to be written, as a list and as a set
local first_claim, first_order, more_claims -- index -> field, its order, { field, order, ... } to be entered
local ended_claims -- index -> field or { field, ... } to be struck out

local remembered -- operation id -> record, or false where there is none
local written -- { operation id, record, ... }: to be written
local due_ids -- place in the deadline index -> { kind, id, ... }
local events, event_parts, event_count

local function reset_state()
  sees_overdue, position_count, event_parts, event_count = nil, 0, 0, 0
  index_of, key_of, place_of = {}, {}, {}
  hand_of, held_of, allocated_of, unsellable_of, policy_of = {}, {}, {}, {}, {}
  changed, is_changed = {}, {}
  first_claim, first_order, more_claims, ended_claims = {}, {}, {}, {}
  remembered, written, due_ids, events = {}, {}, {}, {}
end
