"""Records what callers ask of an `Inventory` and what they are told, for `engine.check` to judge.

One file for each connection of a process, of JSON Lines. The first line tells where the history begins; then
each operation has two: one before anything is sent, one after the answer is known. An operation without its
second line is one whose outcome nobody knows.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import wraps
from inspect import Parameter, getmembers, iscoroutinefunction, signature
from itertools import count
from logging import getLogger
from pathlib import Path
from typing import Any, Final

import msgspec

from engine.dataset import Dataset
from engine.errors import (
    BincardError,
    ExceedsOpenQuantity,
    InsufficientStock,
    InvalidRequest,
    OutcomeError,
    Unconfirmed,
)
from engine.ids import NO_OPERATION
from engine.inventory import Inventory
from engine.types import Count, Movement, ReserveRequest

log = getLogger("bincard.history")

FORMAT: Final = 1
CHUNK_BYTES: Final = 1 << 22
"""How much of the file is mapped at a time; a multiple of the page size."""
NOT_RECORDED: Final = frozenset(
    {
        "close",
        # What proves a key is nowhere but in the one answer that shows it.
        "api_key",
        "api_keys",
        "create_key",
        "revoke_key",
        "rotate_key",
        "server_time",
        # It has no effect: what it forgets nobody is told of any more.
        "trim",
        # Each of these is made of others, which are recorded: documents, supplies, facts, other lines.
        "atp",
        "cancel_inbound",
        "cancel_transfer",
        "create_transfer",
        "deliver_documents",
        "expect",
        "forget_documents",
        "inbound",
        "inbound_page",
        "inbounds",
        "receive_inbound",
        "receive_transfer",
        # A list says nothing that reading each reservation would not say, and it is long.
        "reservations",
        "ship_transfer",
        "source_lines",
        "transfer",
        "transfer_page",
        "transfers",
    }
)
OF_MANY: Final = {
    "reserve_many": "reserve",
    "commit_many": "commit",
    "release_many": "release",
    "record_many": "record",
    "count_many": "count",
}
"""Methods that ask for several operations at once, and what each of these is recorded as."""

_encode = msgspec.json.Encoder(enc_hook=repr).encode
_BOOT_CLOCK = getattr(time, "CLOCK_BOOTTIME", None)


class Begin(msgspec.Struct, frozen=True, kw_only=True):
    """The first line of a history. Times of histories with the same `clock` can be compared."""

    history: int
    process: str
    clock: str
    """The boot of the machine: all its processes share one clock that no one can set."""
    dataset: str
    partitions: int
    retention_seconds: int
    begins: list[str]
    """The version of each partition when the recording began."""
    time: int


def read_clock() -> int:
    """Nanoseconds since the machine started, those included in which it slept."""
    return time.monotonic_ns() if _BOOT_CLOCK is None else time.clock_gettime_ns(_BOOT_CLOCK)


def encode_begin(begin: Begin) -> bytes:
    """The first line of a history."""
    return _encode(begin) + b"\n"


def encode_call(at: int, number: int, operation: str, arguments: Mapping[str, object]) -> bytes:
    """The line of an operation that is about to begin."""
    return b'{"time":%d,"number":%d,"operation":"%s","arguments":%s}\n' % (
        at,
        number,
        operation.encode(),
        _encode_if_possible(arguments),
    )


def encode_answer(at: int, number: int, answer: object) -> bytes:
    """The line of an operation that succeeded."""
    return b'{"time":%d,"number":%d,"outcome":"ok","answer":%s}\n' % (at, number, _encode_if_possible(answer))


def encode_failure(at: int, number: int, fault: BaseException) -> bytes:
    """The line of an operation that was refused, or whose outcome is unknown.

    Whatever is no exception of the engine's own (a cancelled task, a fault) may have had its effect.
    """
    line: dict[str, object] = {"time": at, "number": number}
    if not isinstance(fault, BincardError) or isinstance(fault, Unconfirmed):
        line |= {"outcome": "unknown", "word": getattr(fault, "outcome", type(fault).__name__)}
        return _encode(line) + b"\n"
    line |= {"outcome": "refused", "word": "invalid_request"}
    if isinstance(fault, OutcomeError):
        line |= {"word": fault.outcome, "version": fault.version}
    if isinstance(fault, InsufficientStock):
        line["answer"] = fault.shortages
    elif isinstance(fault, ExceedsOpenQuantity):
        line["answer"] = fault.excess
    elif isinstance(fault, InvalidRequest):
        line["answer"] = fault.field
    return _encode(line) + b"\n"


def _encode_if_possible(content: object) -> bytes:
    """JSON; of what has none a text. An operation never fails because it is recorded."""
    try:
        return _encode(content)
    except (ValueError, TypeError, OverflowError, RecursionError):
        return _encode(ascii(content))


class HistoryFile:
    """Appends lines to a file of its own. What was appended outlives the process, however that ends.

    The file is mapped into memory and its blocks are allocated ahead, so a line costs a copy and no call
    of the system. Until `close` it ends in zero bytes.
    """

    def __init__(self, path: Path) -> None:
        self.process, self.path, self._file = _create(path)
        self._start = self._at = 0
        self._map: mmap.mmap | None = None
        try:
            self._map_next(0)
        except OSError:
            os.close(self._file)
            raise

    def append(self, line: bytes) -> None:
        """Writes a line. Where the disk is full the history ends, and says so, and nothing else fails."""
        if self._map is None:
            return
        end = self._at + len(line)
        if end > len(self._map) - len(_BROKEN_OFF_LINE):
            try:
                self._map_next(len(line))
            except OSError as fault:
                log.error("the history %s breaks off: %s", self.path, fault)  # noqa: TRY400 - its text tells all
                self._map[self._at : self._at + len(_BROKEN_OFF_LINE)] = _BROKEN_OFF_LINE
                self._at += len(_BROKEN_OFF_LINE)
                self._map.close()
                self._map = None
                return
            end = self._at + len(line)
        self._map[self._at : end] = line
        self._at = end

    def close(self) -> None:
        """Cuts the file behind the last line."""
        if self._file < 0:
            return
        if self._map is not None:
            self._map.close()
            self._map = None
        os.ftruncate(self._file, self._start + self._at)
        os.close(self._file)
        self._file = -1

    def _map_next(self, size: int) -> None:
        """Maps from the page that the next line begins in. Raises `OSError`."""
        written = self._start + self._at
        start = written - written % mmap.ALLOCATIONGRANULARITY
        length = max(CHUNK_BYTES, size + 2 * mmap.ALLOCATIONGRANULARITY)
        if hasattr(os, "posix_fallocate"):
            # A block that is not there when a mapped page is written would end the process.
            os.posix_fallocate(self._file, start, length)
        else:
            os.ftruncate(self._file, start + length)
        mapped = mmap.mmap(self._file, length, offset=start)
        if self._map is not None:
            self._map.close()
        self._map, self._start, self._at = mapped, start, written - start


_BROKEN_OFF_LINE = b'{"outcome":"broken_off"}\n'


def _create(path: Path) -> tuple[str, Path, int]:
    """A new file beside `path`, named after the process: `shop.jsonl` makes `shop.4711-1.jsonl`.

    No file that exists is written to. Raises `OSError`.
    """
    for number in count(1):
        process = f"{os.getpid()}-{number}"
        own = path.with_name(f"{path.stem}.{process}{path.suffix}")
        with suppress(FileExistsError):
            return process, own, os.open(own, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    raise AssertionError


class RecordedInventory(Inventory):
    """An `Inventory` whose every operation is recorded. Build it with `open_recorded`."""

    def __init__(self, dataset: Dataset, file: HistoryFile) -> None:
        super().__init__(dataset)
        # Operations that are made of others are one operation: the inner one records nothing.
        self.inner = Inventory(dataset)
        self.index = self.inner.index
        self.file = file
        self.numbers = count()

    async def close(self) -> None:
        await super().close()
        self.file.close()


Method = Callable[..., Awaitable[Any]]


def _recorded(operation: str, method: Method) -> Method:
    names = list(signature(method).parameters)[1:]
    defaults = _defaults_of(method)

    @wraps(method)
    async def record(self: RecordedInventory, *given: object, **named: object) -> Any:  # noqa: ANN401 - as method
        number, append = next(self.numbers), self.file.append
        arguments = {**defaults, **_given(dict(zip(names, given, strict=False))), **_given(named)}
        append(encode_call(read_clock(), number, operation, arguments))
        try:
            answer = await method(self.inner, *given, **named)
        except BaseException as fault:
            append(encode_failure(read_clock(), number, fault))
            raise
        append(encode_answer(read_clock(), number, answer))
        return answer

    return record


def _recorded_many(operation: str, method: Method) -> Method:
    """Each request as if it had been asked for by itself: all begin together and end together."""
    form = signature(method)
    requests = list(form.parameters)[1]
    defaults = _defaults_of(getattr(Inventory, operation))

    @wraps(method)
    async def record(self: RecordedInventory, *given: object, **named: object) -> Any:  # noqa: ANN401 - as method
        arguments, append = form.bind(self.inner, *given, **named).arguments, self.file.append
        arguments[requests] = asked = list(arguments[requests])
        common = {**defaults, **{name: value for name, value in named.items() if name != requests}}
        numbers = [next(self.numbers) for _ in asked]
        for number, one in zip(numbers, asked, strict=True):
            append(encode_call(read_clock(), number, operation, {**common, **_arguments_of(one)}))
        try:
            answers = await method(**arguments)
        except BaseException as fault:
            for number in numbers:
                append(encode_failure(read_clock(), number, fault))
            raise
        for number, answer in zip(numbers, answers, strict=True):
            encode = encode_failure if isinstance(answer, BaseException) else encode_answer
            append(encode(read_clock(), number, answer))
        return answers

    return record


def _defaults_of(method: Method) -> dict[str, object]:
    return {
        parameter.name: parameter.default
        for parameter in signature(method).parameters.values()
        if parameter.default not in {Parameter.empty, None, ()}
    }


def _arguments_of(request: object) -> dict[str, object]:
    """What one of several requests would be asked with by itself."""
    if isinstance(request, Movement):
        return {"movement": request}
    if isinstance(request, Count):
        return {"count": request}
    if not isinstance(request, ReserveRequest):
        return {"reservation": request}
    return _given(msgspec.structs.asdict(request))


def _given(arguments: Mapping[str, object]) -> dict[str, object]:
    """None is what an argument that is not given has."""
    return {name: value for name, value in arguments.items() if value is not None}


for _name, _method in getmembers(Inventory, iscoroutinefunction):
    if _name in OF_MANY:
        setattr(RecordedInventory, _name, _recorded_many(OF_MANY[_name], _method))
    elif not _name.startswith("_") and _name not in NOT_RECORDED:
        setattr(RecordedInventory, _name, _recorded(_name, _method))


async def open_recorded(dataset: Dataset, path: str) -> Inventory:
    """An inventory that records to a file beside `path`. Closes the data set where it cannot.

    Raises `OSError`, `Unavailable`, `Unconfirmed`.
    """
    try:
        replies = await asyncio.gather(*(commands.find(NO_OPERATION) for commands in dataset.commands))
        file = HistoryFile(Path(path))
    except BaseException:
        await dataset.close()
        raise
    begin = Begin(
        history=FORMAT,
        process=file.process,
        clock=_read_boot(),
        # No movement has an empty id: this is nobody's, and tells one data set from another.
        dataset=dataset.ids.of_movement("", "").hex(),
        partitions=dataset.partitions,
        retention_seconds=dataset.retention_seconds,
        begins=[f"{epoch}.{answer[0]}" for _, epoch, _, answer in replies],
        time=read_clock(),
    )
    file.append(encode_begin(begin))
    return RecordedInventory(dataset, file)


def _read_boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
