"""Load stock, locations, pools, channels or items from a CSV or JSON Lines file through the public interface.

Columns are named as the fields of the interface. In CSV an empty cell means "not given" and lists
(`capabilities`, `locations`, `pools`, `gtins`) are separated by semicolons; `components`, `buffer` and
`policy` need JSON Lines. A bad line is reported and skipped, the others are loaded.

Repeatable: settings are replaced by equal ones, and a movement without an `id` gets one
from the file's name, the line's number and the line's content. Loading a file again, also after
bad lines in it were corrected, adds only what was not on the books; a new delivery needs a new file
name (or ids of its own). The server remembers ids for its retention time, by default 24 hours.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Callable, Iterator
from http import HTTPStatus
from itertools import islice
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from api.replay.client import Target, segment
from api.replay.run import run_loop
from api.replay.shop import ServerGoneError, Shopper, Tally, Verb
from api.replay.stock import LOADERS, StockRefusedError, spread
from api.replay.wire import MovementResults, problem

Kind = Literal["stock", "locations", "pools", "channels", "items"]
Format = Literal["csv", "jsonl"]

PATIENCE_S = 10.0
TIMEOUT_S = 30.0
LINES_PER_REQUEST = 1000
LISTED_ERRORS = 1000
_NO_TEXT = "\N{REPLACEMENT CHARACTER}"
"""Stands for bytes that are no UTF-8."""
_LISTS = frozenset({"capabilities", "gtins", "locations", "pools"})
_FIELD = re.compile(r"field `(\w+)`|at `(?:key in )?\$\.(\w+)")

Sku = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
Identifier = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._-]{1,64}$")]


class StockRow(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """A line of a stock file: one movement, a receipt unless `kind` says otherwise."""

    sku: Sku
    location: Identifier
    quantity: int
    kind: Literal["receive", "sale", "return", "adjust", "condition"] | None = None
    id: str | None = None
    reason: str | None = None
    reference: str | None = None
    occurred_at: str | None = None
    condition: str | None = None
    to_condition: str | None = None
    reservation: str | None = None


class Policy(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """What holds at positions without a policy of their own."""

    safety_stock: int | None = None
    backorder_limit: int | None = None
    low_stock: int | None = None


class LocationRow(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """A line of a locations file."""

    id: Identifier
    kind: Literal["warehouse", "store", "dropship", "virtual"]
    name: str | None = None
    lat: float | None = None
    lon: float | None = None
    priority: int | None = None
    capabilities: list[str] | None = None
    active: bool | None = None
    time_zone: str | None = None
    gln: str | None = None
    policy: Policy | None = None


class PoolRow(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """A line of a pools file."""

    id: Identifier
    locations: list[str]


class Buffer(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """What a channel leaves to the others."""

    units: int | None = None
    percent: int | None = None


class ChannelRow(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """A line of a channels file."""

    id: Identifier
    pools: list[str]
    buffer: Buffer | None = None


class Component(msgspec.Struct, forbid_unknown_fields=True):
    """A part of a kit."""

    sku: Sku
    quantity: int


class ItemRow(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """A line of an items file."""

    sku: Sku
    name: str | None = None
    unit: str | None = None
    gtins: list[str] | None = None
    components: list[Component] | None = None
    tracked: bool | None = None
    policy: Policy | None = None


Row = StockRow | LocationRow | PoolRow | ChannelRow | ItemRow
ROWS: dict[Kind, type[Row]] = {
    "stock": StockRow,
    "locations": LocationRow,
    "pools": PoolRow,
    "channels": ChannelRow,
    "items": ItemRow,
}


class LineError(NamedTuple):
    """A line that was not loaded: its number in the file, the field if one is at fault, and why."""

    line: int
    field: str
    remedy: str


class LoadReport(msgspec.Struct):
    """What became of a file. `stopped` is empty, or says why the rest was not tried."""

    kind: Kind
    file: str
    lines: int = 0
    loaded: int = 0
    failed: int = 0
    stopped: str = ""
    errors: list[LineError] = []

    @property
    def ok(self) -> bool:
        """Whether every line is on the books."""
        return not self.failed and not self.stopped

    def fail(self, line: int, field: str, remedy: str) -> None:
        """Note a line that was not loaded; all are counted, the first ones are listed."""
        self.failed += 1
        if len(self.errors) < LISTED_ERRORS:
            self.errors.append(LineError(line, field, remedy))


class Numbered(NamedTuple):
    """A good row and its line number."""

    line: int
    row: Row


def load(
    kind: Kind,
    path: Path,
    *,
    url: str,
    key: str | None = None,
    file_format: Format | None = None,
    progress: bool = True,
) -> LoadReport:
    """Load a file; without `file_format` its extension decides (.csv, .jsonl, .ndjson).

    Raises:
        OSError: the file cannot be read.
        ValueError: the format is not known, or the URL or the key is none.
    """
    return run_loop(_Loader(kind, path, Target(url, key), _format(path, file_format)).go(progress))


def show(report: LoadReport, console: Console | None = None) -> None:
    """Print the summary and the errors for a person."""
    out = console or Console()
    for line, field, remedy in report.errors:
        place = f"{report.file}:{line}" + (f" {field}" if field else "")
        out.print(f"{place}: {remedy}", style="red", markup=False, highlight=False)
    if report.stopped:
        out.print(f"Stopped: {report.stopped}", style="red", markup=False, highlight=False)
    out.print(
        f"{report.kind}: {report.loaded:,} of {report.lines:,} lines loaded, {report.failed:,} failed",
        highlight=False,
    )


class _Loader:
    """One load of one file."""

    def __init__(self, kind: Kind, path: Path, target: Target, file_format: Format) -> None:
        self._kind = kind
        self._path = path
        self._target = target
        self._format = file_format
        self._report = LoadReport(kind=kind, file=path.name)

    async def go(self, progress: bool) -> LoadReport:  # noqa: FBT001  (private, one caller)
        """Send all good lines; a server that refuses the whole kind stops the load."""
        shoppers = [
            Shopper(self._target, Tally(), patience_s=PATIENCE_S, timeout_s=TIMEOUT_S) for _ in range(LOADERS)
        ]
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        bar = Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), disable=not progress)
        try:
            with bar, self._path.open("rb") as file:
                task = bar.add_task(f"Loading {self._kind}", total=sum(1 for _ in file))
                rows = self._rows(lambda: bar.update(task, completed=self._report.lines))
                if self._kind == "stock":
                    await spread(shoppers, _parts(rows), self._move)
                else:
                    await spread(shoppers, rows, self._put)
                bar.update(task, completed=self._report.lines, total=self._report.lines)
        except (ServerGoneError, StockRefusedError) as stopped:
            self._report.stopped = str(stopped)
        finally:
            for shopper in shoppers:
                shopper.close()
        self._report.errors.sort()
        return self._report

    def _rows(self, moved: Callable[[], None]) -> Iterator[Numbered]:
        """Read the good rows; the bad ones go into the report."""
        for line, fields in _read(self._path, self._format):
            self._report.lines += 1
            if self._report.lines % LINES_PER_REQUEST == 0:
                moved()
            try:
                if isinstance(fields, msgspec.ValidationError):
                    raise fields
                yield Numbered(line, msgspec.convert(fields, ROWS[self._kind], strict=False))
            except msgspec.ValidationError as bad:
                self._report.fail(line, *_remedy(bad, ROWS[self._kind]))

    async def _move(self, shopper: Shopper, part: list[Numbered]) -> None:
        """Send a part of a stock file; each movement has its own result."""
        movements = [self._movement(numbered) for numbered in part]
        body = msgspec.json.encode({"movements": movements})
        request = self._target.request("POST", "/v1/stock/movements", body)
        answer = (await shopper.tell(Verb.RECEIVE, request)).answers[0]
        if answer.status != HTTPStatus.MULTI_STATUS:
            if len(part) > 1 and answer.status == HTTPStatus.UNPROCESSABLE_ENTITY:
                for numbered in part:  # One line spoils the part: find it.
                    await self._move(shopper, [numbered])
                return
            self._refused(part[0].line, answer.status, answer.body)
            return
        for result in msgspec.json.decode(answer.body, type=MovementResults).results:
            if result.accepted:
                self._report.loaded += 1
            else:
                self._report.fail(part[result.index].line, "", result.remedy)

    async def _put(self, shopper: Shopper, numbered: Numbered) -> None:
        """Create or replace one setting."""
        body = msgspec.to_builtins(numbered.row)
        name = body.pop("sku" if self._kind == "items" else "id")
        path = f"/v1/{self._kind}/{segment(name)}"
        request = self._target.request("PUT", path, msgspec.json.encode(body))
        answer = (await shopper.tell(Verb.RECEIVE, request)).answers[0]
        if answer.status < HTTPStatus.BAD_REQUEST:
            self._report.loaded += 1
        elif problem(answer.body).code in {"not_found", "method_not_allowed"}:
            raise StockRefusedError(f"this server does not offer {self._kind} yet")
        else:
            self._refused(numbered.line, answer.status, answer.body)

    def _movement(self, numbered: Numbered) -> dict[str, object]:
        row: dict[str, object] = msgspec.to_builtins(numbered.row)
        row.setdefault("kind", "receive")
        if "id" not in row:
            content = msgspec.json.encode([self._path.name, numbered.line, row], order="sorted")
            row["id"] = f"load-{hashlib.sha256(content).hexdigest()[:32]}"
        return row

    def _refused(self, line: int, status: int, body: bytes) -> None:
        """Note a refusal of one line; a refusal of the caller stops the load."""
        said = problem(body)
        if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            raise StockRefusedError(f"{status} {said.detail or said.code}; check the key")
        if not said.errors:
            self._report.fail(line, "", said.detail or said.code or f"status {status}")
            return
        first = said.errors[0]
        names = [part for part in first.get("pointer", "").split("/") if part and not part.isdecimal()]
        field = names[-1] if names else ""
        self._report.fail(line, field, first.get("detail", said.detail))


def _read(
    path: Path, file_format: Format
) -> Iterator[tuple[int, dict[str, object] | msgspec.ValidationError]]:
    """Read (line number, fields) of each line that is not blank."""
    if file_format == "jsonl":
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    try:
                        yield number, msgspec.json.decode(line, type=dict[str, object])
                    except (msgspec.DecodeError, UnicodeError, RecursionError) as bad:
                        yield number, msgspec.ValidationError(f"not a JSON object: {bad}")
        return
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as text:
        table = csv.DictReader(text)
        while True:
            try:
                cells = next(table)
            except StopIteration:
                return
            except csv.Error as bad:
                yield table.line_num, msgspec.ValidationError(f"not a line of CSV: {bad}")
                if table.line_num <= 1:
                    return
                continue
            yield table.line_num, _fields(cells)


def _fields(cells: dict[str, str]) -> dict[str, object] | msgspec.ValidationError:
    """What a line of CSV says, or why it says nothing."""
    if None in cells:
        return msgspec.ValidationError("more cells than the header names")
    if any(_NO_TEXT in name + (cell or "") for name, cell in cells.items()):
        return msgspec.ValidationError("not UTF-8")
    return {
        name.strip(): cell.split(";") if name.strip() in _LISTS else cell.strip()
        for name, cell in cells.items()
        if cell and cell.strip()
    }


def _remedy(bad: msgspec.ValidationError, row: type[Row]) -> tuple[str, str]:
    """Give (field, what to do) for a line that does not fit."""
    said = str(bad)
    found = _FIELD.search(said)
    field = (found[1] or found[2]) if found else ""
    if "unknown field" in said:
        return field, f"no such column; the columns are {', '.join(row.__struct_fields__)}"
    if "missing required" in said:
        return field, "is missing"
    return field, said.partition(" - at")[0]


def _parts(rows: Iterator[Numbered]) -> Iterator[list[Numbered]]:
    while part := list(islice(rows, LINES_PER_REQUEST)):
        yield part


def _format(path: Path, wanted: Format | None) -> Format:
    """Decide the format of a file."""
    if wanted is not None:
        return wanted
    suffix = path.suffix.lower()
    if suffix == ".csv":
        return "csv"
    if suffix in {".jsonl", ".ndjson"}:
        return "jsonl"
    raise ValueError(f"{path.name}: neither .csv nor .jsonl; name the format with --format")
