"""Bincard's inventory engine: knows the server, knows nothing of HTTP.

inventory = await connect("redis://localhost:6379")
held = await inventory.reserve("cart-81", [Line("A-1", 2, "s7")])
await inventory.commit(held.id)
"""

from os import environ

from engine import limits
from engine.dataset import open_dataset
from engine.errors import (
    BincardError,
    InvalidRequest,
    OutcomeError,
    Refused,
    Unavailable,
    Unconfirmed,
)
from engine.inventory import Inventory
from engine.outcomes import Outcome, Retry
from engine.types import (
    Availability,
    Buffer,
    Capability,
    Channel,
    Component,
    Count,
    Fence,
    Item,
    Line,
    Location,
    LocationKind,
    Movement,
    MovementKind,
    MovementResult,
    Nearby,
    Policy,
    PolicyDefaults,
    Pool,
    Position,
    Reservation,
    ReserveRequest,
    State,
    Status,
)

__all__ = [
    "Availability",
    "BincardError",
    "Buffer",
    "Capability",
    "Channel",
    "Component",
    "Count",
    "Fence",
    "InvalidRequest",
    "Inventory",
    "Item",
    "Line",
    "Location",
    "LocationKind",
    "Movement",
    "MovementKind",
    "MovementResult",
    "Nearby",
    "Outcome",
    "OutcomeError",
    "Policy",
    "PolicyDefaults",
    "Pool",
    "Position",
    "Refused",
    "Reservation",
    "ReserveRequest",
    "Retry",
    "State",
    "Status",
    "Unavailable",
    "Unconfirmed",
    "connect",
]


async def connect(
    url: str,
    *,
    partitions: int | None = None,
    retention_seconds: int = limits.DEFAULT_RETENTION_SECONDS,
    create: bool = True,
    replicas: int = 0,
) -> Inventory:
    """Opens the data set of a server, made now if there is none and `create` allows.

    `partitions` is for a new data set (default 1). What changes something is answered when so many
    `replicas` have it, too. Raises `StorageUnavailable` where the server cannot be reached, `DatasetUnfit`
    where its data set does not fit. Where the environment has `BINCARD_HISTORY`, every operation is recorded
    beside the file it names, for `bincard check`.
    """
    dataset = await open_dataset(
        url, partitions=partitions, retention_seconds=retention_seconds, create=create, replicas=replicas
    )
    path = environ.get("BINCARD_HISTORY")
    if not path:
        return Inventory(dataset)
    from engine.history import open_recorded  # noqa: PLC0415 - costs nothing where nothing is recorded

    return await open_recorded(dataset, path)
