"""The engine's verbs spoken over HTTP, recorded at the caller's end: what the API tells is judged, too."""

from collections.abc import Sequence
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from api.replay.client import Answer, Caller, OutcomeUnknownError, Target
from engine import limits
from engine.errors import (
    REFUSAL_ERRORS,
    BincardError,
    ExceedsOpenQuantity,
    InsufficientStock,
    MemoryFull,
    Overloaded,
    ReplicasUnavailable,
    StorageUnavailable,
    Unavailable,
    Unconfirmed,
)
from engine.history import FORMAT, Begin, HistoryFile, encode_begin, read_clock
from engine.history import _read_boot as read_boot
from engine.history import _recorded as recorded
from engine.history import _recorded_many as recorded_many
from engine.types import (
    Availability,
    Excess,
    Line,
    Location,
    LocationAvailability,
    Movement,
    MovementResult,
    Reservation,
    ReservationLine,
    ReserveRequest,
    Shortage,
    State,
    Status,
    Uncovered,
)

TIMEOUT_SECONDS = 5.0
UNAVAILABLE: dict[str, type[Unavailable]] = {
    error.outcome: error for error in (MemoryFull, Overloaded, ReplicasUnavailable, StorageUnavailable)
}
FIRST_ERROR = 400


class HttpInventory:
    """The verbs that the crowd uses, with the signatures of `Inventory`. One request at a time each."""

    def __init__(self, url: str) -> None:
        self._target = Target(url)
        self._idle: list[Caller] = []

    async def close(self) -> None:
        for caller in self._idle:
            caller.close()

    async def save_location(self, location: Location, *, caller: str = "") -> Location:
        await self._ask("PUT", f"/v1/locations/{location.id}", {"kind": location.kind})
        return location

    async def reserve(
        self,
        op_id: str,
        lines: Sequence[Line],
        *,
        ttl_seconds: int = limits.DEFAULT_TTL_SECONDS,
        caller: str = "",
    ) -> Reservation:
        body = {"lines": lines, "ttl_seconds": ttl_seconds}
        return _reservation(await self._ask("POST", "/v1/reservations", body, op_id), ttl_seconds)

    async def reserve_many(
        self, requests: Sequence[ReserveRequest], *, caller: str = ""
    ) -> list[Reservation | Exception]:
        operations = [
            {
                "op": "reserve",
                "key": _key(one.op_id),
                "body": {"lines": one.lines, "ttl_seconds": one.ttl_seconds},
            }
            for one in requests
        ]
        told = await self._ask("POST", "/v1/reservations/batch", {"operations": operations})
        answers: list[Reservation | Exception] = []
        for one, result in zip(requests, msgspec.json.decode(told.body)["results"], strict=True):
            body = msgspec.json.encode(result["body"])
            answer = Answer(result["status"], body, result.get("replayed", False), 0.0)
            try:
                answers.append(_reservation(_checked(answer), one.ttl_seconds))
            except BincardError as error:
                answers.append(error)
        return answers

    async def commit(
        self,
        reservation: str,
        *,
        lines: Sequence[Line] | None = None,
        remainder: str = "release",
        fulfil: bool = False,
        if_expired: str = "fail",
        op_id: str | None = None,
        caller: str = "",
    ) -> Reservation:
        body: dict[str, object] = {"remainder": remainder, "fulfil": fulfil, "if_expired": if_expired}
        if lines is not None:
            body["lines"] = lines
        return await self._resolve("commit", reservation, body, op_id)

    async def release(self, reservation: str, *, op_id: str | None = None, caller: str = "") -> Reservation:
        return await self._resolve("release", reservation, None, op_id)

    async def extend(
        self, reservation: str, ttl_seconds: int, *, op_id: str | None = None, caller: str = ""
    ) -> Reservation:
        return await self._resolve("extend", reservation, {"ttl_seconds": ttl_seconds}, op_id)

    async def fulfil(self, reservation: str, *, op_id: str | None = None, caller: str = "") -> Reservation:
        return await self._resolve("fulfil", reservation, None, op_id)

    async def cancel(self, reservation: str, *, op_id: str | None = None, caller: str = "") -> Reservation:
        return await self._resolve("cancel", reservation, None, op_id)

    async def reservation(self, reservation: str) -> Reservation:
        return _reservation(await self._ask("GET", f"/v1/reservations/{reservation}"))

    async def availability(self, sku: str) -> Availability:
        told = msgspec.json.decode((await self._ask("GET", f"/v1/availability/{sku}")).body)
        places = [msgspec.convert(place, LocationAvailability) for place in told["locations"]]
        return Availability(sku, told["available"], Status(told["status"]), told["version"], places)

    async def stock(self, sku: str) -> list[dict[str, Any]]:
        told = msgspec.json.decode((await self._ask("GET", f"/v1/stock/{sku}")).body)
        return [{**row, "unsellable": sum(row["unsellable"].values())} for row in told["positions"]]

    async def record(self, movement: Movement, *, caller: str = "") -> MovementResult:
        body = {
            "movements": [{n: getattr(movement, n) for n in ("id", "kind", "sku", "location", "quantity")}]
        }
        told = await self._ask("POST", "/v1/stock/movements", body)
        (result,) = msgspec.json.decode(told.body)["results"]
        if result["status"] >= FIRST_ERROR:
            _checked(
                Answer(result["status"], msgspec.json.encode(result["body"]), replayed=False, retry_after_s=0)
            )
        uncovered = [msgspec.convert(one, Uncovered) for one in result.get("uncovered") or ()]
        return MovementResult(
            result["on_hand"],
            result["available"],
            result["version"],
            uncovered,
            result.get("replayed", False),
        )

    async def _resolve(
        self, verb: str, reservation: str, body: dict[str, object] | None, op_id: str | None
    ) -> Reservation:
        return _reservation(await self._ask("POST", f"/v1/reservations/{reservation}/{verb}", body, op_id))

    async def _ask(self, method: str, path: str, body: object = None, key: str | None = None) -> Answer:
        caller = self._idle.pop() if self._idle else Caller(self._target, timeout_s=TIMEOUT_SECONDS)
        content = b"" if body is None else msgspec.json.encode(body)
        request = self._target.request(method, quote(path), content, None if key is None else _key(key))
        try:
            answer = await caller.ask(request)
        except OutcomeUnknownError as lost:
            raise Unconfirmed(str(lost)) from lost
        finally:
            self._idle.append(caller)
        return _checked(answer)


def _key(op_id: str) -> str:
    """An operation id as a header can carry it."""
    return op_id.replace(" ", "_")


def _checked(answer: Answer) -> Answer:
    """The answer, or what the engine would have raised. Whatever is not understood is an unknown outcome."""
    if answer.status < FIRST_ERROR:
        return answer
    problem = msgspec.json.decode(answer.body)
    code, detail = problem["code"], problem["detail"]
    if code == InsufficientStock.outcome:
        raise InsufficientStock(detail, [msgspec.convert(one, Shortage) for one in problem["shortages"]])
    if code == ExceedsOpenQuantity.outcome:
        raise ExceedsOpenQuantity(detail, [msgspec.convert(one, Excess) for one in problem["excess"]])
    if code in REFUSAL_ERRORS:
        raise REFUSAL_ERRORS[code](detail)
    if code in UNAVAILABLE:
        raise UNAVAILABLE[code](detail)
    raise Unconfirmed(f"{code}: {detail}")


def _reservation(answer: Answer, ttl_seconds: int | None = None) -> Reservation:
    """The moment of the making is not told over HTTP; that of a reserve follows from its deadline."""
    told = msgspec.json.decode(answer.body)
    expires = told["expires_at"]
    expires_ms = None if expires is None else round(datetime.fromisoformat(expires).timestamp() * 1000)
    is_made = expires_ms is not None and ttl_seconds is not None
    return Reservation(
        id=told["id"],
        state=State(told["state"]),
        created_ms=expires_ms - ttl_seconds * 1000 if is_made else 0,
        expires_ms=expires_ms,
        owner=told["owner"],
        reference=told["reference"],
        channel=told["channel"],
        metadata=told["metadata"],
        version=told["version"],
        lines=[msgspec.convert(line, ReservationLine) for line in told["lines"]],
        replayed=answer.replayed,
    )


class RecordedHttp:
    """Records each operation as `engine.history` does."""

    def __init__(self, url: str, history: Path) -> None:
        self.inner = HttpInventory(url)
        self.file = HistoryFile(history)
        self.numbers = count()
        begin = Begin(
            history=FORMAT,
            process=self.file.process,
            clock=read_boot(),
            dataset="",
            partitions=1,
            retention_seconds=limits.DEFAULT_RETENTION_SECONDS,
            begins=["1.0"],
            time=read_clock(),
        )
        self.file.append(encode_begin(begin))

    async def close(self) -> None:
        await self.inner.close()
        self.file.close()


for _name in (
    *("save_location", "reserve", "commit", "release", "extend", "fulfil", "cancel"),
    *("reservation", "availability", "stock", "record"),
):
    setattr(RecordedHttp, _name, recorded(_name, getattr(HttpInventory, _name)))
RecordedHttp.reserve_many = recorded_many("reserve", HttpInventory.reserve_many)
