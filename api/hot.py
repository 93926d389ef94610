"""The hot routes: one engine call each, bytes in and bytes out.

A handler takes a `Request` and returns an `Answer`; it raises what the engine raises. `front.py` finds
the handler, reads the body and turns exceptions into problem documents.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from hashlib import blake2b
from re import compile as compile_pattern
from typing import Any, Literal
from urllib.parse import parse_qs, unquote

import msgspec
from msgspec.structs import replace

from api.access import OPEN, Access, Scope, blurred
from api.access_table import OF_OPERATION
from api.codec import (
    Result,
    availability_parts,
    decode_batch,
    decode_choice,
    decode_commit,
    decode_extend,
    decode_query,
    decode_reserve,
    decode_reserves,
    encode,
    reservation_answer,
)
from api.finding import (
    ExplainedAvailability,
    explained_availability,
    explained_by_rules,
    list_reservations,
    read_number,
    read_text,
)
from api.narrowing import (
    blurred_availability,
    check_reservation,
    check_seen,
    check_supply,
    narrow_choice,
    narrowed,
    own_places,
    refuse_explanation,
    unknown_sku,
)
from api.problems import ProblemError, as_logged_problem
from api.promises import promised_answer, wants_promises
from api.schemas import LineBody, OperationBody, QueryBody, ReserveBody, WantedBody, as_line
from api.sourcing import is_plain
from api.sourcing import reserve as reserve_by_rules
from engine import Availability, InvalidRequest, Inventory, Line, Reservation, ReserveRequest, Status, limits
from engine.errors import SkuNotFound, Unavailable
from engine.planner import LOCATION_PATTERN
from engine.sourcing_plan import Rules

Headers = list[tuple[bytes, bytes]]
Answer = tuple[int, bytes, Headers]
JSON_TYPE = (b"content-type", b"application/json")
REPLAYED: Headers = [JSON_TYPE, (b"idempotent-replayed", b"true")]
PLAIN: Headers = [JSON_TYPE]
_KEY = compile_pattern(r'"([\x21-\x7e]{1,255})"|([\x21\x23-\x7e][\x21-\x7e]{0,254})')
MISSING_KEY = "send an Idempotency-Key of your choice, and the same one when you repeat the request"


def tier_header(durability: str) -> tuple[bytes, bytes]:
    """What every answer to a change says: how durable the change is."""
    return b"bincard-durability", durability.encode()


class Request:
    """What a handler needs to know."""

    __slots__ = ("access", "body", "headers", "method", "path", "peer", "query", "request_id")

    def __init__(self, method: str, path: str, query: bytes, headers: Mapping[bytes, bytes]) -> None:
        self.method = method
        self.path = path
        """As it was sent, still percent-encoded."""
        self.query = query
        self.headers = headers
        self.body = b""
        self.request_id = ""
        self.peer = ""
        """The address, or the network, that it came from."""
        self.access = OPEN
        """Who calls, once `gate.py` has let the request in."""

    def key(self) -> str | None:
        """The idempotency key, without the quotes that it may come in."""
        raw = self.headers.get(b"idempotency-key")
        return None if raw is None else read_key(raw.decode("latin-1"))


Handler = Callable[[Request], Awaitable[Answer]]


def read_key(text: str) -> str:
    """An idempotency key without its quotes. Raises `idempotency_key_invalid`."""
    found = _KEY.fullmatch(text)
    if found is None:
        raise ProblemError("idempotency_key_invalid", "a key has 1 to 255 visible ASCII characters")
    return found[1] or found[2]


def segment(text: str) -> str:
    """A path segment as its author meant it. Raises `invalid_request` where it is no UTF-8."""
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError as error:
        raise InvalidRequest("", "the path is percent-encoded UTF-8") from error


class Hot:
    """The hot routes of one worker."""

    def __init__(self, inventory: Inventory, durability: str = "local") -> None:
        self._inventory = inventory
        tier = tier_header(durability)
        self._done: Headers = [JSON_TYPE, tier]
        self._replayed: Headers = [*REPLAYED, tier]
        self._verbs: dict[str, Handler] = {
            "commit": self.commit,
            "release": self.release,
            "extend": self.extend,
            "fulfil": self.fulfil,
            "cancel": self.cancel,
        }

    def routes(self) -> list[tuple[str, str]]:
        """Template and method of each hot route."""
        steps = [f"/v1/reservations/{{id}}/{verb}" for verb in self._verbs]
        found = [self.find(path) for path in (*_TEMPLATES, *steps)]
        return [(route[0], method) for route in found if route is not None for method in route[1]]

    def find(self, path: str) -> tuple[str, dict[str, Handler]] | None:
        """The route that a path belongs to, and its handler for each method; None if it is not hot."""
        if path.startswith("/v1/reservations"):
            return self._find_reservation(path[16:])
        if path.startswith("/v1/availability/"):
            rest = path[17:]
            if rest == "query":
                return "/v1/availability/query", {"POST": self.query, "GET": self.availability}
            if rest and "/" not in rest:
                return "/v1/availability/{sku}", {"GET": self.availability}
        return None

    def _find_reservation(self, rest: str) -> tuple[str, dict[str, Handler]] | None:
        if not rest:
            return "/v1/reservations", {"POST": self.reserve, "GET": self.reservations}
        if rest == "/batch":
            return "/v1/reservations/batch", {"POST": self.batch}
        parts = rest.split("/")
        if parts[0]:
            return None
        if len(parts) == 2:  # noqa: PLR2004 - '', id
            return "/v1/reservations/{id}", {"GET": self.reservation}
        if len(parts) == 3 and parts[2] in self._verbs:  # noqa: PLR2004 - '', id, verb
            return "/v1/reservations/{id}/" + parts[2], {"POST": self._verbs[parts[2]]}
        return None

    # ---------------------------------------------------------------- reservations

    async def reserve(self, request: Request) -> Answer:
        key = request.key()
        if key is None:
            raise ProblemError("idempotency_key_missing", MISSING_KEY)
        body, access = decode_reserve(request.body), request.access
        if access.is_restricted:
            body = await narrow_choice(self._inventory, access, body)
        if self._inventory.settings.peek() is None:
            await self._look_at_settings()
        if is_plain(self._inventory, body):
            try:
                reservation = await self._inventory.reserve(
                    key,
                    _as_lines(body.lines),
                    ttl_seconds=body.ttl_seconds,
                    owner=body.owner,
                    reference=body.reference,
                    channel=body.channel,
                    metadata=body.metadata,
                    caller=access.caller,
                )
            except SkuNotFound:
                # A kit that this process has not heard of.
                if not await self._inventory.has_kits(line.sku for line in body.lines):
                    raise
                reservation = await reserve_by_rules(self._inventory, key, body, access.caller)
        else:
            reservation = await reserve_by_rules(self._inventory, key, body, access.caller)
        location = (b"location", b"/v1/reservations/" + reservation.id.encode())
        headers = [*(self._replayed if reservation.replayed else self._done), location]
        if body.from_inbound:
            return 201, encode(await promised_answer(self._inventory, reservation)), headers
        return 201, encode(reservation_answer(reservation)), headers

    async def reservation(self, request: Request) -> Answer:
        is_wanted = bool(request.query) and wants_promises(request.query)
        found = check_seen(request.access, await self._inventory.reservation(_reservation_of(request)))
        if is_wanted:
            return 200, encode(await promised_answer(self._inventory, found)), PLAIN
        return 200, encode(reservation_answer(found)), PLAIN

    async def reservations(self, request: Request) -> Answer:
        return 200, await list_reservations(self._inventory, request.query, request.access), PLAIN

    async def commit(self, request: Request) -> Answer:
        reservation = _reservation_of(request)
        return self._resolved(await self._commit(request.access, reservation, request.body, request.key()))

    async def release(self, request: Request) -> Answer:
        chosen = self._choose(
            request.access, "release", _reservation_of(request), request.body, request.key()
        )
        return self._resolved(await chosen)

    async def fulfil(self, request: Request) -> Answer:
        chosen = self._choose(request.access, "fulfil", _reservation_of(request), request.body, request.key())
        return self._resolved(await chosen)

    async def cancel(self, request: Request) -> Answer:
        chosen = self._choose(request.access, "cancel", _reservation_of(request), request.body, request.key())
        return self._resolved(await chosen)

    async def extend(self, request: Request) -> Answer:
        reservation = _reservation_of(request)
        return self._resolved(await self._extend(request.access, reservation, request.body, request.key()))

    def _resolved(self, reservation: Reservation) -> Answer:
        headers = self._replayed if reservation.replayed else self._done
        return 200, encode(reservation_answer(reservation)), headers

    async def _commit(self, access: Access, reservation: str, raw: bytes, key: str | None) -> Reservation:
        body = decode_commit(raw or b"{}")
        if access.is_restricted:
            await check_reservation(self._inventory, access, reservation)
        return await self._inventory.commit(
            reservation,
            lines=_partial(body.lines, key),
            remainder=body.remainder,
            fulfil=body.fulfil,
            if_expired=body.if_expired,
            reference=body.reference,
            op_id=key,
            caller=access.caller,
        )

    async def _choose(
        self,
        access: Access,
        verb: Literal["release", "fulfil", "cancel"],
        reservation: str,
        raw: bytes,
        key: str | None,
    ) -> Reservation:
        lines = _partial(decode_choice(raw or b"{}").lines, key)
        if access.is_restricted:
            await check_reservation(self._inventory, access, reservation)
        if verb == "release":
            return await self._inventory.release(reservation, lines=lines, op_id=key, caller=access.caller)
        if verb == "fulfil":
            return await self._inventory.fulfil(reservation, lines=lines, op_id=key, caller=access.caller)
        return await self._inventory.cancel(reservation, lines=lines, op_id=key, caller=access.caller)

    async def _extend(self, access: Access, reservation: str, raw: bytes, key: str | None) -> Reservation:
        ttl_seconds = decode_extend(raw or b"{}").ttl_seconds
        if access.is_restricted:
            await check_reservation(self._inventory, access, reservation)
        return await self._inventory.extend(reservation, ttl_seconds, op_id=key, caller=access.caller)

    # ---------------------------------------------------------------- batch

    async def batch(self, request: Request) -> Answer:
        try:
            reserves = decode_reserves(request.body).operations
        except msgspec.ValidationError:
            results = await self._run_any(decode_batch(request.body).operations, request)
        else:
            wanted = [(index, operation.key, operation.body) for index, operation in enumerate(reserves)]
            results = await self._reserve_many(wanted, request)
        return 207, encode({"results": results}), self._done

    async def _run_any(self, operations: Sequence[OperationBody], request: Request) -> list[Result]:
        """Operations of several kinds, or with faults: the reserves in one call, the others each alone."""
        reserves = [(index, one.key, one.body) for index, one in enumerate(operations) if one.op == "reserve"]
        others = [(index, one) for index, one in enumerate(operations) if one.op != "reserve"]
        ended = asyncio.gather(*(self._run(index, operation, request) for index, operation in others))
        results = [*await self._reserve_many(reserves, request), *await ended]
        results.sort(key=_index_of)
        return results

    async def _reserve_many(
        self, wanted: Sequence[tuple[int, str | None, ReserveBody | dict[str, Any] | None]], request: Request
    ) -> list[Result]:
        """Reserves of a batch, each with its index and key, as if each had come alone. In order of index."""
        if self._inventory.settings.peek() is None:
            await self._look_at_settings()
        found: list[tuple[int, Reservation | Exception]] = []
        asked, indexes, by_rules = [], [], []
        access = request.access
        may_reserve = Scope.RESERVATION_CREATE in access.scopes
        for index, key, body in wanted:
            try:
                if not may_reserve:
                    access.require(OF_OPERATION["reserve"].scopes)
                own_key, own_body = _read_reserve(key, body)
                if access.is_restricted:
                    own_body = await narrow_choice(self._inventory, access, own_body)
            except Exception as error:  # noqa: BLE001 - each operation ends with a result of its own
                found.append((index, error))
                continue
            if is_plain(self._inventory, own_body):
                asked.append(_as_request(own_body, own_key))
                indexes.append(index)
            else:
                by_rules.append((index, reserve_by_rules(self._inventory, own_key, own_body, access.caller)))
        sourced = asyncio.gather(*(waiting for _, waiting in by_rules), return_exceptions=True)
        if asked:
            try:
                answers: Sequence[Reservation | Exception] = await self._inventory.reserve_many(
                    asked, caller=access.caller
                )
            except Exception as error:  # noqa: BLE001 - same
                answers = [error] * len(asked)
            found.extend(zip(indexes, answers, strict=True))
        for (index, _), answer in zip(by_rules, await sourced, strict=True):
            if isinstance(answer, BaseException) and not isinstance(answer, Exception):
                raise answer
            found.append((index, answer))
        results = [
            Result(index, 201, reservation_answer(answer), answer.replayed)
            if isinstance(answer, Reservation)
            else _refused(index, answer, request)
            for index, answer in found
        ]
        if len(asked) < len(wanted):
            results.sort(key=_index_of)
        return results

    async def _run(self, index: int, operation: OperationBody, request: Request) -> Result:
        """One operation of a batch, as if it had come alone."""
        try:
            request.access.require(OF_OPERATION[operation.op].scopes)
            key = None if operation.key is None else read_key(operation.key)
            reservation = await self._run_operation(request.access, operation, key)
        except Exception as error:  # noqa: BLE001 - each operation ends with a result of its own
            return _refused(index, error, request)
        return Result(index, 200, reservation_answer(reservation), reservation.replayed)

    async def _run_operation(self, access: Access, operation: OperationBody, key: str | None) -> Reservation:
        if operation.id is None:
            raise InvalidRequest("/id", "name the reservation")
        raw = b"" if operation.body is None else encode(operation.body)
        if operation.op == "commit":
            return await self._commit(access, operation.id, raw, key)
        if operation.op == "extend":
            return await self._extend(access, operation.id, raw, key)
        assert operation.op != "reserve"
        return await self._choose(access, operation.op, operation.id, raw, key)

    async def _look_at_settings(self) -> None:
        """Rules are read from settings no older than a second. Where the server cannot be asked, the request
        itself will say so.
        """
        with suppress(Unavailable):
            await self._inventory.settings.current()

    # ---------------------------------------------------------------- availability

    async def availability(self, request: Request) -> Answer:
        sku, access = segment(request.path[17:]), request.access
        asked = _read_query(request.query) if request.query else _EVERYWHERE
        named = asked.locations
        if access.is_restricted:
            asked = await self._narrow_read(access, asked)
        if asked.explain:
            refuse_explanation(access)
        if self._inventory.settings.peek() is None:
            await self._look_at_settings()
        by_rules = self._rules_of(sku, asked.channel, asked.pool)
        try:
            found, fits = await self._look_up(sku, asked, by_rules, access)
        except SkuNotFound as error:
            # A kit that this process has not heard of.
            if by_rules is not None or not await self._inventory.has_kits((sku,)):
                raise unknown_sku(sku) if access.is_restricted else error from None
            found, fits = await self._look_up(sku, asked, Rules(everywhere=True), access)
        if access.is_restricted or access.is_banded:
            assert isinstance(found, Availability), "reasons are refused"
            found = blurred_availability(narrowed(sku, found, access, named), access)
        head, tail = availability_parts(sku, found.available, found.status, found.locations)
        if asked.quantity is not None and access.is_banded:
            rooms = [found.available] if by_rules else [place.available for place in found.locations]
            fits = max(rooms, default=0) >= asked.quantity
        if asked.quantity is not None and fits is None:
            fits = any(place.available >= asked.quantity for place in found.locations)
            if not fits:
                # A task of its own: few ask that far.
                can_reserve = self._inventory.can_reserve(
                    sku, asked.quantity, locations=asked.locations, owner=asked.owner
                )
                fits = await asyncio.get_running_loop().create_task(can_reserve)
        extra = b"" if fits is None and not asked.explain else _more_of(found, fits=fits)
        tag = b'W/"' + blake2b(head + tail + extra, digest_size=8).hexdigest().encode() + b'"'
        known = request.headers.get(b"if-none-match")
        if known is not None and matches(known, tag):
            return 304, b"", [(b"etag", tag)]
        body = b"".join((head, b',"version":"', found.version.encode(), b'","locations":', tail, extra, b"}"))
        return 200, body, [JSON_TYPE, (b"etag", tag)]

    async def _narrow_read(self, access: Access, asked: "_Asked") -> "_Asked":
        """What a restricted caller asks: about its places, to its channel."""
        channel = access.channel_of(asked.channel, "?channel")
        if asked.pool is not None or channel is not None:
            settings = await self._inventory.settings.current()
            check_supply(access, settings, channel, asked.pool, is_whole=False)
        return replace(asked, channel=channel, locations=own_places(access, asked.locations))

    async def _look_up(
        self, sku: str, asked: "_Asked", rules: Rules | None, access: Access
    ) -> tuple[Availability | ExplainedAvailability, bool | None]:
        """What is available, by rules where there are some; whether the quantity fits, where they tell."""
        inventory, locations = self._inventory, asked.locations
        if rules is None:
            if not asked.explain:
                # Of a restricted caller's places those that stock the SKU are chosen from all.
                places = () if access.locations is not None else locations
                return await inventory.availability(sku, locations=places, owner=asked.owner), None
            explaining = explained_availability(inventory, sku, locations, asked.owner)
            return await asyncio.get_running_loop().create_task(explaining), None
        if asked.explain:
            explaining_by = explained_by_rules(
                inventory, sku, rules, locations=locations, quantity=asked.quantity, owner=asked.owner
            )
            return await asyncio.get_running_loop().create_task(explaining_by)
        if asked.owner is None:
            return await inventory.availability_by(
                sku, rules=rules, locations=locations, quantity=asked.quantity
            )
        return await inventory.availability_to(
            asked.owner, sku, rules=rules, locations=locations, quantity=asked.quantity
        )

    async def query(self, request: Request) -> Answer:
        body = decode_query(request.body)
        try:
            found = await self._availability_of(body, request.access)
        except InvalidRequest as error:
            bad = next((index for index, sku in enumerate(body.skus) if not sku.isprintable()), 0)
            raise InvalidRequest(f"/skus/{bad}", error.remedy) from error
        items = []
        for sku, one in zip(body.skus, found, strict=True):
            item: dict[str, Any] = {
                "sku": sku,
                "available": 0 if one is None else one.available,
                "status": Status.OUT_OF_STOCK if one is None else one.status,
                "known": one is not None,
                "version": None if one is None else one.version,
            }
            if body.detail:
                item["locations"] = () if one is None else one.locations
            items.append(item)
        return 200, encode({"items": items}), PLAIN

    async def _availability_of(self, body: QueryBody, access: Access) -> Sequence[Availability | None]:
        """The availability of many SKUs, each by the rules that hold for it, as the caller may see it."""
        if not (access.is_restricted or access.is_banded):
            return await self._read_many(body.skus, body.locations, body.channel, body.pool)
        asked = await self._narrow_read(access, _Asked(body.locations, channel=body.channel, pool=body.pool))
        # Places are chosen from all: a location that does not stock a SKU knows nothing of it.
        found = await self._read_many(body.skus, (), asked.channel, asked.pool)
        told: list[Availability | None] = []
        for sku, one in zip(body.skus, found, strict=True):
            try:
                own = None if one is None else narrowed(sku, one, access, body.locations)
            except SkuNotFound:
                own = None
            told.append(None if own is None else blurred_availability(own, access))
        return told

    async def _read_many(
        self, skus: Sequence[str], locations: Sequence[str], channel: str | None, pool: str | None
    ) -> Sequence[Availability | None]:
        if self._inventory.settings.peek() is None:
            await self._look_at_settings()
        rules = [self._rules_of(sku, channel, pool) for sku in skus]
        plain = [sku for sku, one in zip(skus, rules, strict=True) if one is None]
        plainly = iter(await self._inventory.availability_of(plain, locations=locations) if plain else ())
        by_rules = iter(
            await asyncio.gather(
                *(
                    self._availability_by(sku, one, locations)
                    for sku, one in zip(skus, rules, strict=True)
                    if one is not None
                )
            )
        )
        found = [next(plainly if one is None else by_rules) for one in rules]
        unknown = {sku for sku, one, told in zip(skus, rules, found, strict=True) if not (one or told)}
        if unknown and await self._inventory.has_kits(unknown):
            # Kits that this process had not heard of; now it has.
            return await self._read_many(skus, locations, channel, pool)
        return found

    async def _availability_by(self, sku: str, rules: Rules, locations: Sequence[str]) -> Availability | None:
        try:
            found, _ = await self._inventory.availability_by(sku, rules=rules, locations=locations)
        except SkuNotFound:
            return None
        return found

    def _rules_of(self, sku: str, channel: str | None, pool: str | None) -> Rules | None:
        """The rules that availability is to be read by; None where the card of the SKU says it all."""
        if channel is not None or pool is not None:
            return Rules(channel, pool)
        settings = self._inventory.settings.glance()
        return Rules(everywhere=True) if settings is not None and sku in settings.kits else None


def _more_of(found: Availability | ExplainedAvailability, *, fits: bool | None) -> bytes:
    """What an availability answer has behind its locations where more was asked."""
    more = b""
    if fits is not None:
        more = b',"can_reserve":true' if fits else b',"can_reserve":false'
    if isinstance(found, ExplainedAvailability) and found.components is not None:
        more += b',"components":' + encode(found.components)
    return more


class _Asked(msgspec.Struct, frozen=True):
    locations: Sequence[str] = ()
    quantity: int | None = None
    owner: str | None = None
    explain: bool = False
    channel: str | None = None
    pool: str | None = None


_EVERYWHERE = _Asked()
_TEMPLATES = (
    "/v1/reservations",
    "/v1/reservations/batch",
    "/v1/reservations/{id}",
    "/v1/availability/{sku}",
    "/v1/availability/query",
)
"""Paths that lead to each hot route but the steps of reservations."""
QUANTITY_DIGITS = 10
_PARAMETERS = frozenset({"channel", "pool", "location", "quantity", "explain", "owner"})
_FLAGS = {"true": True, "false": False}


def _read_query(query: bytes) -> _Asked:
    """The query of an availability read. Raises `invalid_request` naming the parameter."""
    try:
        given = parse_qs(query.decode("ascii"), keep_blank_values=True, errors="strict")
    except UnicodeError as error:
        raise InvalidRequest("", "the query is percent-encoded UTF-8") from error
    for name in given:
        if name not in _PARAMETERS:
            raise InvalidRequest(f"?{name}", "there is no such parameter")
    quantity = None
    if "quantity" in given:
        text = given["quantity"][0]
        quantity = read_number(text, QUANTITY_DIGITS)
        if not 1 <= quantity <= limits.MAX_QUANTITY:
            raise InvalidRequest("?quantity", f"a whole number from 1 to {limits.MAX_QUANTITY}")
    owner = read_text("owner", given["owner"][0]) if "owner" in given else None
    explain = _FLAGS.get(given.get("explain", ("false",))[0])
    if explain is None:
        raise InvalidRequest("?explain", "true or false")
    channel, pool = _read_id(given, "channel"), _read_id(given, "pool")
    return _Asked(given.get("location", ()), quantity, owner, explain, channel, pool)


def _read_id(given: Mapping[str, Sequence[str]], name: str) -> str | None:
    """The id of a channel or a pool that a query may name. Raises `InvalidRequest`."""
    if name not in given:
        return None
    if not LOCATION_PATTERN.fullmatch(given[name][0]):
        raise InvalidRequest(f"?{name}", f"a {name} id has 1 to 64 of A-Z a-z 0-9 . _ -")
    return given[name][0]


def matches(known: bytes, tag: bytes) -> bool:
    """Whether an If-None-Match names an entity tag."""
    if known == tag:
        return True
    weak = tag.removeprefix(b"W/")
    return any(part.strip() == b"*" or part.strip().removeprefix(b"W/") == weak for part in known.split(b","))


def _reservation_of(request: Request) -> str:
    return segment(request.path[17:].partition("/")[0])


def _partial(lines: Sequence[LineBody] | None, key: str | None) -> list[Line] | None:
    """The lines of a partial operation: only its key makes a repeat of it safe."""
    if lines is None:
        return None
    if key is None:
        raise ProblemError("idempotency_key_missing", MISSING_KEY)
    return [as_line(line) for line in lines]


def _as_lines(lines: Sequence[WantedBody]) -> list[Line]:
    """Lines that all name their places."""
    return [Line(line.sku, line.quantity, line.location or "") for line in lines]


def _as_request(body: ReserveBody, key: str) -> ReserveRequest:
    return ReserveRequest(
        key,
        _as_lines(body.lines),
        body.ttl_seconds,
        body.owner,
        body.reference,
        body.channel,
        body.metadata,
    )


def _read_reserve(key: str | None, body: ReserveBody | dict[str, Any] | None) -> tuple[str, ReserveBody]:
    """Key and body of a reserve of a batch. Raises what makes a problem."""
    if key is None:
        raise ProblemError("idempotency_key_missing", "a reserve needs a key of its own")
    key = read_key(key)
    if not isinstance(body, ReserveBody):
        body = msgspec.convert(body or {}, ReserveBody)
    return key, body


def _refused(index: int, error: Exception, request: Request) -> Result:
    """The result of an operation that was refused, or failed."""
    problem = as_logged_problem(blurred(error, request.access), request.request_id)
    document = problem.document(f"{request.path}#{index}", request.request_id)
    return Result(index, problem.status, document)


def _index_of(result: Result) -> int:
    return result.index
