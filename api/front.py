"""The ASGI front: every request passes here once, and every answer leaves from here.

It gives the request its id, checks what concerns all routes (method, media types, size), calls a hot
handler or hands over to FastAPI, turns exceptions into problem documents, and counts.
"""

from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from itertools import count
from logging import getLogger
from secrets import token_hex
from time import perf_counter
from typing import Any

from api.access import blurred
from api.access_table import LOGGED, rule_of
from api.admission import Admission, Rank, operations_of
from api.codec import encode
from api.gate import Gate
from api.hot import Answer, Handler, Headers, Hot, Request, tier_header
from api.keyring import Caller
from api.limits import DEFAULT
from api.metrics import HttpMetrics
from api.problems import ProblemError, as_logged_problem
from api.quota import Quota, network_of
from api.readiness import Readiness
from api.refusing import UNREAD
from api.watch import Watch
from engine.errors import (
    BincardError,
    OutcomeError,
    Overloaded,
    ReplicasUnavailable,
    StorageUnavailable,
    Unavailable,
)

log = getLogger("bincard.http")
changes = getLogger("bincard.changes")
"""Who changed settings and keys, by the whole id: the ledger has a mark of it."""

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_REQUEST_ID_LENGTH = 128
FIRST_PROBLEM = 400
READ_BY_POST = "/v1/availability/query"
PROBLEM_TYPE = (b"content-type", b"application/problem+json")
_NOTHING: Headers = []
_ACCEPTABLE = (b"application/json", b"application/*", b"*/*", b"application/problem+json")


class Front:
    """The application of one worker."""

    def __init__(
        self,
        hot: Hot,
        cold: App,
        metrics: HttpMetrics,
        readiness: Readiness,
        admission: Admission,
        watch: Watch,
        quota: Quota | None,
        gate: Gate,
    ) -> None:
        self._hot = hot
        self._cold = cold
        self.metrics = metrics
        self._readiness = readiness
        self._admission = admission
        self._watch = watch
        self._most_bytes = watch.limits.max_body_bytes
        self._quota = quota
        self._gate = gate
        self._tier = tier_header(readiness.durability)
        self._prefix = token_hex(4)
        self._numbers = count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI. `protocol.py` answers hot requests without it; other servers and FastAPI come here."""
        if scope["type"] != "http":
            await self._cold(scope, receive, send)
            return
        started = perf_counter()
        path = scope["raw_path"].decode("ascii", "replace")
        request = Request(scope["method"], path, scope["query_string"], as_headers(scope["headers"]))
        request.request_id = self.request_id(request.headers)
        if scope.get("client"):
            request.peer = network_of(scope["client"][0])
        found = self.find(path)
        if found is None:
            await self._pass_on(scope, receive, send, request, started)
            return
        route, handlers = found
        try:
            request.body = await read_body(receive, self._most_bytes)
        except ProblemError as error:
            status, body, headers = problem_answer(error, request)
        else:
            status, body, headers = await self.answer(request, route, handlers)
        headers = [*headers, (b"x-request-id", request.request_id.encode())]
        if status != 304:  # noqa: PLR2004 - Not Modified has no body
            headers.append((b"content-length", b"%d" % len(body)))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        self.metrics.observe(request.method, route, status, perf_counter() - started)

    def find(self, path: str) -> tuple[str, dict[str, Handler]] | None:
        """The hot route of a path and its handlers by method."""
        return self._hot.find(path)

    async def answer(self, request: Request, route: str, handlers: dict[str, Handler]) -> Answer:
        """Answers a hot request, whatever happens."""
        told, caller = _NOTHING, None
        try:
            handler = handlers.get("GET" if request.method == "HEAD" else request.method)
            if handler is None:
                allowed = ", ".join([*handlers, "HEAD"] if "GET" in handlers else handlers)
                raise ProblemError(
                    "method_not_allowed", f"{request.path} takes {allowed}", headers={"Allow": allowed}
                )
            if self._quota is not None:
                caller = self._gate.known(request)
                told = self._charge(self._quota, request, caller, len(request.body))
            self._gate.admit(request, route, caller)
            if self._readiness.unfit:
                self._check_may_write(request)
            check_media_types(request.method, request.headers)
            if told:
                status, body, headers = await handler(request)
                return status, body, [*headers, *told]
            return await handler(request)
        except Exception as error:  # noqa: BLE001 - every failure is answered with its problem
            status, body, headers = problem_answer(blurred(error, request.access), request)
            return status, body, [*headers, *told]

    def _charge(self, quota: Quota, request: Request, caller: Caller | None, body_bytes: int) -> Headers:
        """Counts a request against what its caller may ask; a batch by its bytes. Raises `quota_exceeded`."""
        try:
            requests = operations_of(body_bytes) if body_bytes else 1
            if caller is None:
                return quota.charge(request.peer, requests)
            return quota.charge(caller.access.caller, requests, caller.access.rate)
        except ProblemError:
            self._watch.count("rate")
            raise

    async def _pass_on(
        self, scope: Scope, receive: Receive, send: Send, request: Request, started: float
    ) -> None:
        """Hands a request to FastAPI. The path stays percent-encoded there, so that a SKU with a slash
        in it is one segment; routes decode their parameters.
        """
        seen = {"status": 500}
        told: Headers = _NOTHING

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen["status"] = message["status"]
                message["headers"] = [
                    *message.get("headers", ()),
                    (b"x-request-id", request.request_id.encode()),
                    *told,
                ]
                if request.method not in {"GET", "HEAD"} and message["status"] < FIRST_PROBLEM:
                    message["headers"].append(self._tier)
            await send(message)

        scope["path"] = request.path
        scope.setdefault("state", {})["request"] = request
        try:
            if self._quota is not None and request.path.startswith("/v1/"):
                declared = request.headers.get(b"content-length", b"0")
                size = int(declared) if declared.isdigit() else 0
                told = self._charge(self._quota, request, self._gate.known(request), size)
            self._check_may_write(request)
            self._check_may_read(request)
        except (Unavailable, ProblemError) as error:
            status, body, headers = problem_answer(error, request)
            headers.append((b"content-length", b"%d" % len(body)))
            await send_with_id({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": body})
        else:
            await self._cold(scope, receive, send_with_id)
        route = scope.get("route")
        template = getattr(route, "path", "unmatched")
        self.metrics.observe(request.method, template, seen["status"], perf_counter() - started)
        if request.access.caller and seen["status"] < FIRST_PROBLEM:
            self._tell_who(request, template)

    def _tell_who(self, request: Request, route: str) -> None:
        """The ledger has the mark of who changed settings and keys; the log has the key's id."""
        if request.method not in {"GET", "HEAD"} and rule_of(route, request.method).scopes <= LOGGED:
            changes.info("key %s: %s %s", request.access.caller, request.method, request.path)

    def _check_may_write(self, request: Request) -> None:
        """Raises `Unavailable` where a request would change what the server may not keep."""
        unfit = self._readiness.unfit
        if unfit and request.method not in {"GET", "HEAD"} and request.path != READ_BY_POST:
            problem = ReplicasUnavailable if self._readiness.lacks_replicas else StorageUnavailable
            raise problem(f"nothing is written until this is mended: {unfit[0]}")

    def _check_may_read(self, request: Request) -> None:
        """Raises `Overloaded` where a cold read would take the time of what goes before it. Asking for the
        state of the service always works.
        """
        admission = self._admission
        if admission.is_easy or request.method != "GET" or not request.path.startswith("/v1/"):
            return
        if not admission.has_room(Rank.READ):
            admission.shed[Rank.READ] += 1
            raise Overloaded(UNREAD)

    def request_id(self, headers: Mapping[bytes, bytes]) -> str:
        """The id that the caller gave, or a new one."""
        given = headers.get(b"x-request-id")
        if given is not None and len(given) <= MAX_REQUEST_ID_LENGTH:
            text = given.decode("latin-1")
            if text.isascii() and text.isprintable() and text:
                return text
        return f"{self._prefix}-{next(self._numbers):x}"


def as_headers(pairs: Sequence[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Headers by their names; the values of one that repeats are joined, as RFC 9110 (5.3) has it."""
    headers = dict(pairs)
    if len(headers) != len(pairs):
        headers = {}
        for name, value in pairs:
            headers[name] = headers[name] + b", " + value if name in headers else value
    return headers


def check_media_types(method: str, headers: Mapping[bytes, bytes]) -> None:
    """Raises `not_acceptable` and `unsupported_media_type`."""
    accept = headers.get(b"accept")
    if accept is not None and not any(kind in accept.lower() for kind in _ACCEPTABLE):
        raise ProblemError("not_acceptable", "accept application/json")
    if method in {"GET", "HEAD", "DELETE"}:
        return
    kind = headers.get(b"content-type")
    if kind is not None:
        media = kind.split(b";", 1)[0].strip().lower()
        if media != b"application/json" and not media.endswith(b"+json"):
            raise ProblemError("unsupported_media_type", "send the body as application/json")


async def read_body(receive: Receive, most_bytes: int = DEFAULT.max_body_bytes) -> bytes:
    """The whole body. Raises `payload_too_large`, and `malformed_request` where the caller went away
    before all of it was here: half a body may well ask for more than the whole one does.
    """
    message = await receive()
    check_is_body(message)
    body: bytes = message.get("body", b"")
    if not message.get("more_body") and len(body) <= most_bytes:
        return body
    parts, size = [body], len(body)
    while message.get("more_body"):
        message = await receive()
        check_is_body(message)
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > most_bytes:
            break
    if size > most_bytes:
        raise ProblemError("payload_too_large", f"a body has at the most {most_bytes} bytes")
    return b"".join(parts)


def check_is_body(message: Message) -> None:
    """Raises `malformed_request` where no more of the body will come."""
    if message["type"] == "http.disconnect":
        raise ProblemError("malformed_request", "the connection was closed before the body was complete")


def problem_answer(error: Exception, request: Request) -> Answer:
    """The problem document of an exception; what we did not foresee is logged."""
    problem = as_logged_problem(error, request.request_id)
    foreseen = isinstance(error, BincardError | ProblemError | OutcomeError | ValueError)
    if problem.code != "internal_error" and not foreseen:
        log.warning("request %s: %s", request.request_id, problem.code)
    headers: Headers = [PROBLEM_TYPE]
    headers.extend((name.lower().encode(), value.encode()) for name, value in problem.headers.items())
    return problem.status, encode(problem.document(request.path, request.request_id)), headers
