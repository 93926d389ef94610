"""Every metric there is, in the order in which it is told and documented."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

from api.metrics import LATENCY_BUCKETS
from engine.metrics import CALL_BUCKETS, DURATION_BUCKETS


class Family(NamedTuple):
    """A metric: what Prometheus is told of it, and its labels and bounds for whoever reads about it."""

    kind: Literal["counter", "gauge", "histogram"]
    meaning: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()


class Group(NamedTuple):
    """Metrics that come from one source."""

    title: str
    meaning: str
    families: Mapping[str, Family]


_PROCESSES = {
    "bincard_build_info": Family("gauge", "Always 1; the release that answers.", ("version", "python")),
    "bincard_dataset_info": Family("gauge", "Always 1; the data set.", ("partitions", "durability")),
    "bincard_http_requests_total": Family(
        "counter", "Answered requests by method, route and status.", ("method", "route", "status")
    ),
    "bincard_http_request_duration_seconds": Family(
        "histogram",
        "Time from the head of a request to the last byte of its answer.",
        ("method", "route"),
        LATENCY_BUCKETS,
    ),
    "bincard_operations_total": Family(
        "counter", "Operations of the engine by verb and outcome.", ("verb", "outcome")
    ),
    "bincard_refused_units_total": Family(
        "counter", "Units of lines that were refused because they were not there: lost demand.", ("channel",)
    ),
    "bincard_script_call_requests": Family(
        "histogram", "Requests that one script call carried to the server.", (), CALL_BUCKETS
    ),
    "bincard_script_call_duration_seconds": Family(
        "histogram",
        "Time from writing a script call to its answer, those under way before it included.",
        ("verb",),
        DURATION_BUCKETS,
    ),
    "bincard_replica_wait_seconds": Family(
        "histogram",
        "Time that the answers of a turn waited for replicas; durability replicated alone.",
        (),
        DURATION_BUCKETS,
    ),
    "bincard_replica_failures_total": Family(
        "counter", "Turns that too few replicas confirmed, so that their requests are unconfirmed."
    ),
    "bincard_requests_shed_total": Family(
        "counter",
        "Requests refused because there was more to do than could be done; the most important first in line.",
        ("priority",),
    ),
    "bincard_operations_under_way": Family(
        "gauge",
        "Operations that an API worker answers at the moment; a batch counts by its size.",
        ("worker",),
    ),
    "bincard_operations_limit": Family(
        "gauge", "How many a worker lets in at once; commits and releases go beyond it.", ("worker",)
    ),
    "bincard_server_stalls_total": Family(
        "counter", "How often a stock server stopped to answer, so that new requests were refused at once."
    ),
    "bincard_limits_reached_total": Family(
        "counter",
        "Requests and connections that were refused or ended at a limit (`docs/operating/limits.md`).",
        ("limit",),
    ),
    "bincard_connection_up": Family(
        "gauge", "Whether a worker has a connection to the stock server (1) or not (0).", ("worker",)
    ),
    "bincard_worker_start_time_seconds": Family(
        "gauge",
        "When a process began, in seconds since 1970; it changes when one was started anew.",
        ("worker",),
    ),
    "bincard_worker_ready": Family(
        "gauge",
        "Whether an API worker is ready: settings fit the durability, the store answers.",
        ("worker",),
    ),
}

_SERVER = ("server",)
_STORE = {
    "bincard_scrape_store_up": Family(
        "gauge", "Whether the figures of the store are fresh (1); else they are left out of the answer (0)."
    ),
    "bincard_server_memory_used_bytes": Family("gauge", "Memory that the server's data takes.", _SERVER),
    "bincard_server_memory_max_bytes": Family("gauge", "Its limit, maxmemory; 0 where none is set.", _SERVER),
    "bincard_server_memory_peak_bytes": Family("gauge", "The most it ever used.", _SERVER),
    "bincard_server_memory_resident_bytes": Family("gauge", "What the machine gives the process.", _SERVER),
    "bincard_server_memory_machine_bytes": Family("gauge", "What the machine has.", _SERVER),
    "bincard_server_memory_copied_bytes": Family(
        "gauge", "What the last rewrite of the log or snapshot took beside: keep so much free.", _SERVER
    ),
    "bincard_server_fork_seconds": Family("gauge", "How long the last fork held the server up.", _SERVER),
    "bincard_server_rewriting": Family(
        "gauge", "Whether it rewrites its log or makes a snapshot (1).", _SERVER
    ),
    "bincard_server_log_good": Family("gauge", "Whether its last write to the log worked (1).", _SERVER),
    "bincard_server_replicas": Family("gauge", "Replicas that are connected to it.", _SERVER),
    "bincard_server_uptime_seconds": Family("gauge", "For how long it runs.", _SERVER),
    "bincard_server_clock_difference_seconds": Family(
        "gauge", "By how much its clock is ahead of the clock of the machine with the API.", _SERVER
    ),
    "bincard_clock_skew_seconds": Family(
        "gauge", "By how much the store's clocks were ahead of engine time; the partition that is off most."
    ),
    "bincard_sweep_lag_seconds": Family(
        "gauge", "For how long the oldest lapsed hold has not been given back; the worst partition."
    ),
    "bincard_repair_lag_seconds": Family(
        "gauge", "For how long the oldest repair of a basket over several partitions has been due."
    ),
    "bincard_ledger_entries": Family("gauge", "Entries of the ledger, of all partitions."),
    "bincard_ledger_events": Family("gauge", "Events since the data set was made: the sequences, added up."),
    "bincard_index_lag_events": Family("gauge", "Events that the index of reservations does not know yet."),
    "bincard_epoch": Family("gauge", "The newest epoch of any partition."),
    "bincard_epoch_changes_total": Family(
        "counter", "Partitions that went on in a new epoch: a restart, a promotion, or restored books."
    ),
}

_LEDGER = {
    "bincard_holds_total": Family(
        "counter",
        "Reservations by what became of them: held, committed, released, expired, fulfilled, cancelled.",
        ("result",),
    ),
    "bincard_hold_units_total": Family("counter", "The units of these steps.", ("result",)),
    "bincard_facts_total": Family("counter", "Movements and counts of stock."),
    "bincard_uncovered_promises_total": Family("counter", "Promises that facts broke when they came."),
    "bincard_uncovered_promise_units_total": Family("counter", "The units by which they did."),
    "bincard_oversold_units_total": Family(
        "counter", "Units promised by a hold though they were not there. Must be 0."
    ),
    "bincard_ledger_rollbacks_total": Family(
        "counter", "How often a ledger went on from an earlier point: what came after it is lost."
    ),
    "bincard_ledger_gaps_total": Family("counter", "How often events were missing in a ledger. Must be 0."),
    "bincard_ledger_damaged_entries_total": Family("counter", "Entries that cannot be read. Must be 0."),
    "bincard_bookkeeper_lag_events": Family("gauge", "Events that these counts do not know yet."),
}

_PLACE, _LOCATION = ("channel", "location"), ("location",)
_STOCK = {
    "bincard_open_holds": Family(
        "gauge", "Reservations that are held; one of several lines counts where its first is.", _PLACE
    ),
    "bincard_held_units": Family("gauge", "Units that are held.", _PLACE),
    "bincard_allocated_units": Family("gauge", "Units that are committed and have not left.", _PLACE),
    "bincard_positions": Family("gauge", "SKUs that a location stocks, or did.", _LOCATION),
    "bincard_on_hand_units": Family("gauge", "Units that lie there.", _LOCATION),
    "bincard_uncovered_units": Family(
        "gauge", "Units promised beyond what lies there or may be owed, because of facts.", _LOCATION
    ),
    "bincard_uncovered_positions": Family("gauge", "Positions with such units."),
    "bincard_drifted_positions": Family(
        "gauge", "Positions whose counters are not the sum of their reservations. Must be 0."
    ),
    "bincard_drifted_units": Family("gauge", "By how many units they are not. Must be 0."),
    "bincard_uncompared_cards": Family(
        "gauge", "SKUs with more claims than are compared at once, or that changed too often meanwhile."
    ),
    "bincard_stocktake_age_seconds": Family("gauge", "How old these figures are."),
    "bincard_stocktake_duration_seconds": Family("gauge", "How long the walk took that found them."),
}

GROUPS = (
    Group(
        "What processes count",
        "Sums over all processes of the same `bincard serve`. Counts begin at zero with each process.",
        _PROCESSES,
    ),
    Group(
        "The store",
        "Read each second by the process of background workers, for the whole data set; left out when they "
        "are older than 5 s. With several `bincard serve` on one data set each tells the same: take the "
        "`max`.",
        _STORE,
    ),
    Group(
        "What came of holds",
        "Added up from the ledger since the process of background workers began, for the whole data set: "
        "take the `max` of several. Exact as long as that process lives.",
        _LEDGER,
    ),
    Group(
        "The shop",
        "What the last walk over all cards found, each card as of one moment; left out when the store is.",
        _STOCK,
    ),
)
FAMILIES: Mapping[str, Family] = {name: family for group in GROUPS for name, family in group.families.items()}
"""Every metric."""
