"""Every cap of the engine, each with the reason for its size."""

MAX_QUANTITY = 1_000_000_000
"""Units of one line. 200 lines of it are 2e11, which the 5 bytes of a record's quantity hold (1.1e12)."""

MAX_ON_HAND = 10**15
"""Units of one position. Lua numbers are exact to 9e15; the difference is room for sums."""

MAX_LINES = 200
"""Lines of one reservation. Slots and counts of a plan are single bytes."""

MAX_SKU_LENGTH = 64
"""Characters of a SKU: at the most 256 bytes of UTF-8."""

MAX_TTL_SECONDS = 2_592_000
"""The longest hold: 30 days."""

DEFAULT_TTL_SECONDS = 900

DEFAULT_RETENTION_SECONDS = 86_400
"""How long a finished operation is remembered after its end. Open reservations are always remembered."""

MAX_OPERATION_ID_LENGTH = 255
"""Characters of an idempotency key or a movement's id."""

MAX_MOVEMENTS = 5000
MAX_COUNTS = 5000

HISTORY_SECONDS = 30 * 86_400
"""How long movements of a position stay in its history. A count that is older cannot be judged any more."""

TRIM_POSITIONS = 200
"""Positions whose old history one call looks for: less than a millisecond of server time."""

TRIM_MOVES = 500
"""Movements that such a call removes at the most."""

TRIM_SECONDS = 10.0
"""How often a sweeper looks for old history: all of half a million positions in seven hours."""

DOCUMENT_SECONDS = 90 * 86_400
"""How long a transfer or an inbound order is kept after it ended; never shorter than operation ids are."""

TRIM_DOCUMENTS = 128
"""Documents that such a look forgets of a partition at the most: one call."""

MAX_AVAILABILITY_SKUS = 1000

CALL_REQUESTS = 128
"""Requests of one script call: beyond 64 the saving per request is below 2 %, the wait is not."""

CALL_POSITIONS = 512
"""Positions of one script call: about 1 ms of server time at 2 µs each."""

QUEUE_REQUESTS = 20_000
"""Requests of one process that wait for the server. Beyond it new ones are refused as `overloaded`."""

CALL_TIMEOUT_SECONDS = 5.0
"""How long an answer may take before it counts as lost and its requests as unknown."""

PENDING_MS = 10_000
"""How long the parts of a basket over several partitions may be sought before it is abandoned."""

SEEK_MS = 30_000
"""When a part asks that nobody told what was decided: later than PENDING_MS, so that it is by then."""

REPAIR_IDS = 128
"""Baskets and parts that one call lists to be repaired."""

STALL_SECONDS = 0.5
"""How long a node may answer nothing before new requests for it are refused instead of queued. A fork of a
large server takes 0.1 s; who waits for a node that is gone holds up those who want another."""

REPLICA_TIMEOUT_MS = 1000
"""How long replicas may take to confirm an effect; the whole connection waits for them."""

SWEEP_IDS = 512
"""Holds that one call gives back, or memories that one call forgets: about a millisecond of server time."""

MAX_REFERENCE_LENGTH = 255
"""Characters of the reference of a transfer or an inbound order."""

OUTBOX_IDS = 128
"""Documents that one call lists whose effects nobody has seen to."""

MAX_ATP_DAYS = 366

END_OF_TIME_MS = 253_402_300_800_000
"""The year 10000: no later time can be written as RFC 3339."""

MAX_DETAIL_BYTES = 16_384
"""Owner, reference, channel and metadata of a reservation, packed: they are kept twice, record and ledger."""

MAX_METADATA_DEPTH = 16
"""Objects and arrays of metadata in one another, metadata itself counted."""

MAX_PRIORITY = 1_000_000
MAX_PERCENT = 100

MAX_NAMES = 2000
"""Locations of a pool, pools of a channel: at 65 bytes each what one script call reads at ease."""

MAX_COMPONENTS = 50
"""Components of a kit. A reservation's lines are its components: four kits of so many make 200."""

MAX_GTINS = 50
"""GTINs of an item: of its packs, its sizes, and those it had."""
