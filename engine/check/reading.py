"""Histories as `engine.history` writes them, read back and merged in the order of time."""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec import Struct

from engine.errors import BincardError
from engine.history import FORMAT, Begin
from engine.sourcing_plan import Wanted
from engine.types import Count, Line, LocationAvailability, Move, Movement, Shortage, Uncovered


class UnreadableHistoryError(BincardError):
    """A file that is no history, or one that cannot be judged; the text says which and why."""


class Named(Struct, frozen=True, gc=False):
    """A position that a policy is for."""

    sku: str
    location: str


class AskedRules(Struct, frozen=True, gc=False):
    """What of the rules for sourcing bears on the answer."""

    allow_partial: bool = False
    from_inbound: bool = False
    channel: str | None = None


class Sourced(Struct, frozen=True, gc=False):
    """What `source` is asked with."""

    op_id: str
    lines: list[Wanted]
    rules: msgspec.Raw
    ttl_seconds: int = 0
    caller: str = ""
    owner: str | None = None
    reference: str | None = None


class Arguments(Struct, frozen=True, gc=False):
    """What operations are asked with. Each has some of these."""

    op_id: str | None = None
    caller: str = ""
    lines: list[Line] | None = None
    ttl_seconds: int = 0
    reservation: str = ""
    remainder: str = "release"
    fulfil: bool = False
    if_expired: str = "fail"
    reference: str | None = None
    owner: str | None = None
    channel: str | None = None
    movement: Movement | None = None
    sku: str = ""
    skus: list[str] = []
    locations: list[str] = []
    count: Count | None = None
    quantity: int = 0
    location: str = ""
    moves: list[Move] | None = None
    policy: Named | None = None
    wanted: list[Wanted] | None = None
    """The lines of `source`, which need no location."""
    rules: AskedRules | None = None
    rules_text: str = ""


class ToldLine(Struct, frozen=True, gc=False):
    """A line of a reservation in an answer."""

    sku: str
    location: str
    quantity: int
    held: int
    committed: int
    fulfilled: int
    released: int


class ToldReservation(Struct, frozen=True, gc=False):
    """A reservation in an answer."""

    id: str
    state: str
    created_ms: int
    expires_ms: int | None
    owner: str | None
    reference: str | None
    channel: str | None
    version: str
    lines: tuple[ToldLine, ...]
    replayed: bool = False


class ToldMovement(Struct, frozen=True, gc=False):
    """The answer to a fact."""

    on_hand: int
    available: int
    version: str
    uncovered: tuple[Uncovered, ...] = ()
    replayed: bool = False
    effect: int = 0
    ignored: str | None = None


class ToldAvailability(Struct, frozen=True, gc=False):
    """An answer to what can be promised of a SKU."""

    sku: str
    available: int
    version: str
    locations: tuple[LocationAvailability, ...]


class ToldPosition(Struct, frozen=True, gc=False):
    """Counters in an answer."""

    location: str
    on_hand: int
    held: int
    allocated: int
    unsellable: int
    safety_stock: int
    backorder_limit: int
    fenced: int
    version: str


class Entry(Struct, frozen=True, gc=False):
    """A line of a history: `operation` and `arguments` before, `outcome` and what follows after."""

    time: int = 0
    number: int = -1
    operation: str = ""
    arguments: msgspec.Raw = msgspec.Raw(b"")
    outcome: str = ""
    word: str = ""
    version: str | None = None
    answer: msgspec.Raw = msgspec.Raw(b"")


class Read(NamedTuple):
    """A line, where it stands, and its file; an entry of None is the end of the file."""

    time: int
    file: int
    line: int
    entry: Entry | None


_entry = msgspec.json.Decoder(Entry).decode
read_arguments = msgspec.json.Decoder(Arguments).decode
_read_sourced = msgspec.json.Decoder(Sourced).decode
read_reservation = msgspec.json.Decoder(ToldReservation).decode
read_movement = msgspec.json.Decoder(ToldMovement).decode
read_availability = msgspec.json.Decoder(ToldAvailability).decode
read_availabilities = msgspec.json.Decoder(list[ToldAvailability | None]).decode
read_positions = msgspec.json.Decoder(list[ToldPosition]).decode
read_shortages = msgspec.json.Decoder(list[Shortage]).decode


def read_sourced(raw: msgspec.Raw) -> Arguments:
    """The arguments of `source`, whose lines are not those of other verbs."""
    asked = _read_sourced(raw)
    return Arguments(
        op_id=asked.op_id,
        caller=asked.caller,
        ttl_seconds=asked.ttl_seconds,
        owner=asked.owner,
        reference=asked.reference,
        wanted=asked.lines,
        rules=msgspec.json.decode(asked.rules, type=AskedRules),
        rules_text=bytes(asked.rules).decode(),
    )


def find_files(path: Path) -> list[Path]:
    """The history at a path; or those that were recorded where `BINCARD_HISTORY` named the path.

    Raises `UnreadableHistoryError` where there is none.
    """
    if path.exists():
        return [path]
    own = [
        found
        for found in path.parent.glob(f"{glob_escape(path.stem)}.*{glob_escape(path.suffix)}")
        if found.name[len(path.stem) + 1 : len(found.name) - len(path.suffix)].replace("-", "").isdigit()
    ]
    if not own:
        raise UnreadableHistoryError(f"{path}: there is no such history")
    return sorted(own)


def glob_escape(text: str) -> str:
    """The text as a pattern that only it matches."""
    return "".join(f"[{sign}]" if sign in "*?[" else sign for sign in text)


def read_begins(paths: Sequence[Path]) -> list[Begin]:
    """How each history begins. Raises `UnreadableHistoryError` unless they belong together."""
    begins = []
    for path in paths:
        try:
            with path.open("rb") as file:
                begins.append(msgspec.json.decode(file.readline(), type=Begin))
        except (OSError, msgspec.DecodeError) as fault:
            raise UnreadableHistoryError(f"{path}: no history begins here: {fault}") from None
        if begins[-1].history != FORMAT:
            raise UnreadableHistoryError(
                f"{path}: a history of format {begins[-1].history}, this release reads format {FORMAT}"
            )
    for begin, path in zip(begins, paths, strict=True):
        first = begins[0]
        if (begin.dataset, begin.partitions) != (first.dataset, first.partitions):
            raise UnreadableHistoryError(
                f"{path} and {paths[0]} tell of different data sets: check them apart"
            )
        if begin.clock != first.clock:
            raise UnreadableHistoryError(
                f"{path} and {paths[0]} were recorded by different clocks, of two machines or of two starts "
                "of one: their order cannot be told"
            )
    return begins


def read_lines(paths: Sequence[Path]) -> Iterator[Read]:
    """All lines but the first of each, in the order of time. Raises `UnreadableHistoryError`."""
    return heapq.merge(*(_read_file(path, number) for number, path in enumerate(paths)))


def _read_file(path: Path, number: int) -> Iterator[Read]:
    latest, last = 0, 0
    with path.open("rb") as file:
        next(file)
        for line, text in enumerate(file, 2):
            last = line
            if not text.endswith(b"\n") or text[:1] == b"\0":
                # A process that was killed leaves what it had allocated, and perhaps half a line.
                break
            try:
                entry = _entry(text)
            except msgspec.DecodeError as fault:
                raise UnreadableHistoryError(f"{path}:{line}: {fault}") from None
            if entry.outcome == "broken_off":
                raise UnreadableHistoryError(f"{path}:{line}: the history breaks off here, the disk was full")
            if entry.time < latest:
                raise UnreadableHistoryError(f"{path}:{line}: is earlier than the line before it")
            latest = entry.time
            yield Read(latest, number, line, entry)
    yield Read(latest, number, last + 1, None)


def show_lines(paths: Sequence[Path], wanted: Iterable[tuple[int, int]]) -> dict[tuple[int, int], list[str]]:
    """The lines of some operations, named by file and number."""
    asked, found = set(wanted), dict[tuple[int, int], list[str]]()
    for file, path in enumerate(paths):
        if not any(known == file for known, _ in asked):
            continue
        for read in _read_file(path, file):
            if read.entry is not None and (file, read.entry.number) in asked:
                entry = read.entry
                text = (
                    f"{entry.operation} {bytes(entry.arguments).decode()}"
                    if entry.operation
                    else " ".join(
                        filter(None, (entry.outcome, entry.word, entry.version, bytes(entry.answer).decode()))
                    )
                )
                found.setdefault((file, entry.number), []).append(f"{path.name}:{read.line} {text}")
    return found
