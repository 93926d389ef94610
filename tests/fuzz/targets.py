"""What is fuzzed: each target takes any bytes, and raises only where there is a fault.

What callers send must end in a problem of the table, never in `internal_error`. What the store keeps is
decoded by functions that may refuse with one of `DAMAGE`, by which their callers know it.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import get_args
from weakref import ref

import msgspec

from api import codec, hot, load, schemas_changes, schemas_policies, schemas_settings, schemas_supply
from api.admission import Admission, kind_of
from api.codec import encode, parse_time
from api.finding import read_limit, read_number, read_text, read_values
from api.front import Receive, Scope, Send, check_media_types
from api.limits import Limits
from api.metrics import HttpMetrics
from api.problems import as_problem
from api.protocol import HotProtocol
from api.refusing import refuse_unread
from api.watch import Watch
from engine import cards, events, ids, moves, records, setting_forms, supplies
from engine.events import Version, decode_page
from engine.topology.aof import scan_append_only_file
from engine.topology.embedded_errors import AppendOnlyFileError
from engine.types import Line
from tests.unit.test_cards import card_of
from tests.unit.test_records import record_of

Target = Callable[[bytes], None]
DAMAGE = (ValueError, IndexError, msgspec.DecodeError)
_LIMITS = Limits(max_body_bytes=4096, max_head_bytes=2048)
_ANSWER = b"HTTP/1.1 "

DECODERS: Sequence[Callable[[bytes], object]] = [
    codec.decode_reserve,
    codec.decode_commit,
    codec.decode_choice,
    codec.decode_extend,
    codec.decode_batch,
    codec.decode_reserves,
    codec.decode_plan,
    codec.decode_query,
    codec.decode_movements,
    codec.decode_counts,
    codec.decode_set,
    schemas_supply.decode_transfer,
    schemas_supply.decode_receive_transfer,
    schemas_supply.decode_inbound,
    schemas_supply.decode_receive_inbound,
    *(
        msgspec.json.Decoder(body).decode
        for module in (schemas_changes, schemas_policies, schemas_settings)
        for name, body in vars(module).items()
        if name.endswith("Body") and isinstance(body, type) and body.__module__ == module.__name__
    ),
]


def bodies(raw: bytes) -> None:
    """Every body of HTTP: it is refused, or stays what it is."""
    for decode in DECODERS:
        try:
            found = decode(raw)
        except Exception as error:  # noqa: BLE001 - whatever it is, it must have a problem of its own
            _check_problem(error, {"malformed_json", "invalid_request"})
        else:
            assert decode(encode(found)) == found


def words(raw: bytes) -> None:
    """Paths, queries, keys and headers."""
    text = raw.decode("latin-1")
    of_hot = hot.Hot(SimpleNamespace())  # type: ignore[arg-type] - never asked
    request = hot.Request("POST", text, raw, {b"accept": raw, b"content-type": raw, b"idempotency-key": raw})
    for read in (
        lambda: of_hot.find(text),
        lambda: hot.segment(text),
        lambda: read_values(raw, "limit", "cursor", "owner"),
        lambda: read_limit(read_values(raw, "limit")),
        lambda: read_text("owner", text),
        lambda: hot.read_key(text),
        request.key,
        lambda: check_media_types("POST", request.headers),
        lambda: hot.wants_promises(raw),
        lambda: hot._read_query(raw),
        lambda: hot.matches(raw, b'"tag"'),
        lambda: kind_of(raw),
    ):
        try:
            read()
        except Exception as error:  # noqa: BLE001 - same
            _check_problem(error, {"invalid_request", "idempotency_key_invalid", "not_acceptable",
                                   "unsupported_media_type", "malformed_request"})  # fmt: skip
    assert -1 <= read_number(text, 5) < 10**5
    with suppress(ValueError, OverflowError):
        parse_time(text)
    ids.parse_reservation_id(text)
    ids.parse_document_id("t_", text)


def _check_problem(error: Exception, allowed: set[str]) -> None:
    problem = as_problem(error)
    if problem.code not in allowed:
        raise error
    encode(problem.document("/", "id"))


class _Transport:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.closing = False

    def write(self, raw: bytes) -> None:
        assert not self.closing
        self.written += raw

    def close(self) -> None:
        self.closing = True

    abort = close

    def is_closing(self) -> bool:
        return self.closing

    def get_extra_info(self, _: str, default: object = None) -> object:
        return default

    def get_write_buffer_size(self) -> int:
        return 0

    def __getattr__(self, _: str) -> Callable[[], None]:
        return lambda: None


class _Front:
    """Answers everything, and counts."""

    def __init__(self) -> None:
        self.metrics = HttpMetrics()
        self.find = hot.Hot(SimpleNamespace()).find  # type: ignore[arg-type] - never asked

    def request_id(self, _: Mapping[bytes, bytes]) -> str:
        return "id"

    async def answer(self, request: hot.Request, route: str, handlers: object) -> hot.Answer:
        assert len(request.body) <= _LIMITS.max_body_bytes
        return 200, b"{}", []


class _Complaints(logging.Handler):
    """What the protocol logs as an error, where it closes a connection and goes on: a fault, too."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


class _Application:
    """As much of ours as a connection asks for."""

    def __init__(self, *, is_full: bool) -> None:
        self.front, self.admission = _Front(), Admission()
        self.watch = Watch(_LIMITS, 10)
        self.most_connections, self.is_draining = 10, False
        if is_full:
            self.admission.enter(10**6)

    async def __call__(self, _: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


async def _connection(raw: bytes) -> None:
    import uvicorn  # noqa: PLC0415 - only here
    from uvicorn.server import ServerState  # noqa: PLC0415 - same

    faults: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
    # The first byte says whether the worker has room, and how the rest is cut into reads.
    flags = raw[0] if raw else 0
    application = _Application(is_full=bool(flags & 1))
    config = uvicorn.Config(application, ws="none", lifespan="off", log_config=None, access_log=False)  # type: ignore[arg-type] - the part that is asked for
    config.loaded_app = application
    state, transport = ServerState(), _Transport()
    protocol = HotProtocol(config=config, server_state=state, app_state={})
    protocol.connection_made(transport)
    step = 1 + (flags >> 1) if flags & 0x80 else 65_536
    for at in range(1, len(raw), step):
        if transport.closing:
            break
        protocol.data_received(raw[at : at + step])
        await asyncio.sleep(0)
    for _ in range(8):
        await asyncio.sleep(0)
    for later in (0.0, 30.0, 60.0, 200.0):
        # Who waits to be let in does so for a moment, not for minutes.
        if not (transport.closing or protocol.waits):
            protocol.look(application.watch.now + later)
            await asyncio.sleep(0)
    waits = protocol.waits
    protocol.connection_lost(None)
    for task in list(state.tasks):
        task.cancel()
    await asyncio.gather(*state.tasks, return_exceptions=True)
    for timer in (application.admission._timer, application.admission._tick):
        if timer is not None:
            timer.cancel()
    assert not faults, faults
    assert not transport.written or transport.written.startswith(_ANSWER)
    assert transport.closing or waits, "it would stay open for ever"
    assert application.watch.arriving == 0
    ended = ref(protocol)
    del protocol, state
    assert waits or ended() is None, "only the collector would find it"


def connections(raw: bytes) -> None:
    """A connection that gets these bytes, in reads of some size, and then nothing more."""
    complaints, loggers = _Complaints(), [logging.getLogger(name) for name in ("bincard", "uvicorn.error")]
    for logger in loggers:
        logger.addHandler(complaints)
    try:
        asyncio.run(_connection(raw))
    finally:
        for logger in loggers:
            logger.removeHandler(complaints)
    if complaints.records:
        first = complaints.records[0]
        raise AssertionError(first.getMessage()) from (first.exc_info[1] if first.exc_info else None)
    refused = refuse_unread(raw, b"", lambda _: "id")
    assert refused is None or refused.startswith(b"HTTP/1.1 503 ")


def stored(raw: bytes) -> None:
    """Records, cards and everything else that the store keeps."""
    for decode in (
        records.decode_detail,
        records.decode_plan,
        records.decode_terms,
        records.decode_tail,
        records.decode_record,
        records.split_record,
        _read_card,
        lambda packed: cards.decode_fences("A", "s7", packed),
        moves.decode_member,
        moves.decode_conditions,
        moves.decode_result,
        moves.decode_uncovered,
        supplies.decode_change,
        setting_forms.decode_names,
    ):
        with suppress(*DAMAGE):
            decode(raw)


def _read_card(raw: bytes) -> None:
    """Who has made sure that it is a card reads it without any fault."""
    try:
        cards.decode_card(raw)
    except ValueError:
        return
    try:
        cards.read_availability(raw)
        cards.read_rooms(raw)
        cards.read_positions(raw, "1.1")
    except DAMAGE as error:
        raise AssertionError("a card that was found sound cannot be read") from error


def ledger(raw: bytes) -> None:
    """An entry of the ledger: events, or damage that is named, and the reader goes on."""
    items, reached = decode_page(0, Version(1, 0), [("1-5", raw), ("1-6", raw)])
    assert reached == Version(1, 6)
    assert items
    for item in items:
        if isinstance(item, events.Event):
            for name in ("read_record", "read_head", "read_plan", "read_deltas"):
                with suppress(*DAMAGE):
                    getattr(item, name, int)()


def _file(raw: bytes, name: str, use: Callable[[Path], object]) -> None:
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / name
        path.write_bytes(raw)
        use(path)


def append_only_file(raw: bytes) -> None:
    """What a crash may have left of it."""

    def scan(path: Path) -> None:
        with suppress(AppendOnlyFileError):
            scan_append_only_file(path)

    _file(raw, "appendonly.aof", scan)


def load_files(raw: bytes) -> None:
    """Files of `bincard load`: bad lines are named, the others are read."""
    for kind in load.ROWS:
        for form in get_args(load.Format):

            def read(path: Path, kind: load.Kind = kind, form: load.Format = form) -> None:
                loader = load._Loader(kind, path, SimpleNamespace(), form)  # type: ignore[arg-type] - never asked
                with suppress(load.StockRefusedError):
                    for _ in loader._rows(lambda: None):
                        pass

            _file(raw, f"stock.{form}", read)


_HOT = b"POST /v1/reservations HTTP/1.1\r\nHost: x\r\nIdempotency-Key: k\r\n"
_BODY = b'{"lines":[{"sku":"A-1","quantity":1,"location":"s7"}],"ttl_seconds":9,"metadata":{"a":"b"}}'
SEEDS: Mapping[Target, Sequence[bytes]] = {
    bodies: [
        _BODY,
        b'{"operations":[{"op":"commit","id":"r_a","key":"k","body":{"lines":[{"sku":"A","quantity":1}]}}]}',
        b'{"movements":[{"id":"m","kind":"condition","sku":"A","location":"s7","quantity":-1,"condition":"x"}]}',
        b'{"kind":"store","lat":1.5,"lon":2e3,"capabilities":["pickup"],"time_zone":"Europe/Berlin"}',
        b'{"from":"a","to":"b","lines":[{"sku":"A","quantity":1}],"close":true,"safety_stock":1,"quantity":2}',
        b"[" * 2000,
    ],
    words: [b"/v1/reservations/r_AAAA/commit", b"limit=5&owner=%C3%A4&cursor=", b'"k"', b"2026-01-01T00Z"],
    connections: [
        b"\x00" + _HOT + b"Content-Length: %d\r\n\r\n" % len(_BODY) + _BODY,
        b"\x81" + _HOT + b'Transfer-Encoding: chunked\r\n\r\n5\r\n{"a":\r\n0\r\nX: y\r\n\r\n',
        b"\x01GET /v1/availability/A HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n" * 3,
        b"\x85GET /v1/locations HTTP/1.1\r\nExpect: 100-continue\r\n\r\nGET / HTTP/1.0\r\n\r\n",
    ],
    stored: [
        bytes(40),
        card_of(["s7", "w1"], range(8)),
        record_of(bytes(26) + b"\1\0\1\0\0\0\0\1\0\0", [Line("A-1", 2, "s7")], records.NO_DETAIL),
        records.encode_plan([Line("A-1", 2, "s7")]),
        records.encode_terms(records.Terms("web", ("online",), (1,))),
    ],
    ledger: [bytes(6) + b"\x01\x00" + bytes([kind]) + b"\x30\x00\x00" + bytes(48) for kind in range(34)],
    append_only_file: [b"*1\r\n$5\r\nMULTI\r\n*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\nb\r\n*1\r\n$4\r\nEXEC\r\n"],
    load_files: [
        b"sku,location,quantity\nA-1,s7,5\n",
        b'{"sku":"A-1","location":"s7","quantity":5}\n',
        b'"\r\n,,\x00',
    ],
}  # fmt: skip
TARGETS: Mapping[str, Target] = {target.__name__: target for target in SEEDS}
