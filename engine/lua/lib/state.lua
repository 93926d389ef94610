-- The working copy of the call that runs: what it has read and what it is going to write. A server runs
-- one call at a time. These are upvalues because the interpreter reaches one several times faster than a
-- field of a table, and a reserve reaches for them some 50 times.
--
-- Lists outlive a call, because growing one anew costs more than what a reserve does with it. Each has a
-- count, which every call begins at zero, and whoever makes an index sets all that belongs to it: what
-- stands behind the count means nothing.
-- What outlives a call, and what few calls have.
local RUN = { dataset = '', times = {}, slips = {}, horizons = {}, settings = {}, floating = {}, pages = {} }
RUN.page_count = 0 -- of pages
RUN.STEP_MS, RUN.SLACK_MS = 200, 20 -- of a clock; steps of less are let pass by watches, and stood still for
RUN.moves, RUN.move_size = {}, 0 -- of the call: score, member, ... for the history: see batch.lua
local key_of = {} -- a header's word for a key -> the key
local now_ms, epoch_now, last_seq

-- The cards that the call has asked for, by index; those up to `cards_read` have been read.
local card_count, cards_read
local card_index -- field -> index
local field_of, text_of = {}, {} -- no text: the SKU is not stocked there
local first_place = {} -- the place that was asked for first; false: the card was not opened yet
local form_of, block_of = {}, {} -- the block as records take it: 3 bytes
local added_claims, claim_room = {}, {} -- ids to stand behind the text or false; bytes left for more
local other_positions, newest_claim -- card -> place -> position; card -> who claimed last in this call
local is_written, written_cards, written_count = {}, {}, 0

-- The positions that the call has read. A card's first one has the card's index, the others have indexes
-- of their own below zero.
local others_count
local other_card -- position below zero -> card
local offset_of, policy_of = {}, {} -- where the counters begin in the card's text; false: no policy
local hand_of, held_of, allocated_of, unsellable_of = {}, {}, {}, {}
local is_changed, changed, changed_count = {}, {}, 0

-- The lines of the requests: what they want of which card. Those of request i stand from first_line[i] up to
-- last_line[i].
local line_quantity, line_place, line_card, line_position, line_count = {}, {}, {}, {}, 0
local first_line, last_line = {}, {}

local block_texts, written_blocks -- field -> ids; list of the fields that changed

local remembered -- operation id -> record, or false where there is none
local written, written_size = {}, 0 -- operation id, record, ...: to be written
local due_ids, swept_entries -- place in the deadline index -> { kind, id, ... }; entries that are done with
local repairs -- id -> when somebody must see that all partitions know of its last step
local has_swept, sees_more_overdue
local events, event_count = {}, 0
local stock_fields = {} -- field, text, ...: the cards to be written

local function reset_state()
  card_count, cards_read, others_count, line_count, written_count, changed_count = 0, 0, 0, 0, 0, 0
  written_size, event_count, RUN.move_size = 0, 0, 0
  has_swept, sees_more_overdue = false, false
  RUN.fences, RUN.changed_fences, RUN.names = nil, nil, nil
  card_index, other_positions, newest_claim, other_card = {}, {}, {}, {}
  block_texts, written_blocks, remembered, due_ids, swept_entries, repairs = {}, {}, {}, {}, {}, {}
end
