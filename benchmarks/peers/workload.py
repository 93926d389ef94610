"""What every peer is given to do, and what it must answer for afterwards."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

from benchmarks.measure import SEED

LOCATION = "w1"
TTL_SECONDS = 900
COMMIT_SHARE = 0.9
PROBE_SKU = "S-probe"
PROBE_UNITS = 50
"""Stock of the SKU that far too many callers want when the timed part is over."""

UNITS = 100_000_000
"""Stock of every other SKU: the timed part never runs out."""

Side = Literal["yardstick", "bincard", "peer"]


@dataclass(frozen=True, slots=True)
class Workload:
    """Reserve one unit, then commit (90 %) or release it (10 %); SKUs are drawn evenly."""

    name: str
    skus: int
    seed: int = SEED

    def sku(self, number: int) -> str:
        return f"S-{number}"

    def all_skus(self) -> list[str]:
        return [self.sku(number) for number in range(self.skus)]

    def draws(self, caller: int) -> Iterator[tuple[str, bool]]:
        """The SKU and whether to commit, for each turn of a caller; the same for every peer."""
        chance = random.Random(f"{self.seed}-{caller}")
        names, count, draw = self.all_skus(), self.skus, chance.random
        while True:
            yield names[int(draw() * count)], draw() < COMMIT_SHARE


UNIFORM = Workload("uniform", skus=1000)
HOT = Workload("hot", skus=1)


class Counters(NamedTuple):
    """The books of a SKU at the end."""

    on_hand: int
    held: int
    allocated: int


class Peer(Protocol):
    """Something that reserves. One operation a call; where `batched`, also many a call.

    A reservation is named by the operation that made it. `reserve` answers its id, or None where the
    stock does not suffice; a repeat of an operation answers as the first time and takes nothing.
    """

    batched: bool

    async def prepare(self, stock: Mapping[str, int]) -> None:
        """Starts from nothing but this stock."""

    async def reserve(self, operation: str, sku: str) -> str | None: ...

    async def resolve(self, reservation: str, *, commit: bool) -> None: ...

    async def reserve_many(self, wanted: Sequence[tuple[str, str]]) -> list[str | None]:
        """The same for (operation, SKU) pairs."""

    async def resolve_many(self, resolved: Sequence[tuple[str, bool]]) -> None: ...

    async def books(self, skus: Sequence[str]) -> dict[str, Counters]:
        """What the peer itself has counted."""

    async def states(self, reservations: Sequence[str]) -> list[str]:
        """`held`, `committed` or `released` for each, as the peer recorded it."""


@dataclass(slots=True)
class Tally:
    """What the callers were told: the other side of the books."""

    committed: dict[str, int] = field(default_factory=dict)
    operations: int = 0
    refused: int = 0
    latencies_ns: list[int] = field(default_factory=list)
    sample: dict[str, str] = field(default_factory=dict)
    """Some reservations and the state that each must be in."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One repetition of one row. `findings` is empty where the oversell check passed."""

    operations_per_second: float
    p50_ms: float | None
    p99_ms: float | None
    client_cpu_share: float | None
    """CPU seconds of the calling process per second: near 1 the caller, not the server, is the limit."""
    operations: int
    refused: int
    findings: tuple[str, ...]


def percentile_ms(sorted_ns: Sequence[int], share: float) -> float | None:
    """A percentile of sorted nanoseconds, in milliseconds."""
    if not sorted_ns:
        return None
    return sorted_ns[min(len(sorted_ns) - 1, int(len(sorted_ns) * share))] / 1e6
