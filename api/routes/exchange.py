"""What every cold route does with a request and an answer.

FastAPI finds the route and calls the handler. Bodies, parameters and answers go through msgspec, as on
the hot routes, so that both lanes refuse and answer in the same way.
"""

from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple, TypeVar

from fastapi import Request, Response
from fastapi.routing import APIRoute

from api import hot
from api.access import Access, blurred
from api.breaches import too_large
from api.codec import encode
from api.finding import read_limit as read_limit  # noqa: PLC0414 - routes find it here
from api.finding import read_values
from api.front import check_media_types, problem_answer, read_body
from api.limits import Limits
from api.problems import ProblemError

Handler = Callable[[Request], Awaitable[Response]]
Decoded = TypeVar("Decoded")


class Route(NamedTuple):
    """A path, what it takes, and who answers."""

    methods: Sequence[str]
    path: str
    handler: Handler


class ProblemRoute(APIRoute):
    """Asks the gate, and turns what a handler raises into its problem document, as the front does for hot
    routes.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            of_front = asked(request)
            try:
                request.app.state.gate.admit(of_front, self.path)
                return await handle(request)
            except Exception as error:  # noqa: BLE001 - every failure is answered with its problem
                return problem_response(blurred(error, of_front.access), request)

        return answer


def asked(request: Request) -> hot.Request:
    """The request as the front read it."""
    found: hot.Request = request.scope["state"]["request"]
    return found


def access_of(request: Request) -> Access:
    """Who calls."""
    return asked(request).access


def check_request(request: Request) -> None:
    """Refuses media types and idempotency keys that cannot be used."""
    of_front = asked(request)
    check_media_types(of_front.method, of_front.headers)
    if of_front.method not in {"GET", "HEAD"}:
        of_front.key()


async def read_json(request: Request, decode: Callable[[bytes], Decoded]) -> Decoded:
    """The body, decoded. Raises what makes it unusable; a length that is too much, before it is read."""
    declared = asked(request).headers.get(b"content-length", b"0")
    limits: Limits = request.app.state.limits
    if declared.isdigit() and int(declared) > limits.max_body_bytes:
        raise too_large(limits)
    return decode(await read_body(request.receive, limits.max_body_bytes))


async def read_json_or_nothing(
    request: Request, decode: Callable[[bytes], Decoded], nothing: Decoded
) -> Decoded:
    """The body, decoded, or what stands for none."""

    def decode_if_any(body: bytes) -> Decoded:
        return decode(body) if body.strip() else nothing

    return await read_json(request, decode_if_any)


def sent_key(request: Request) -> str | None:
    """The idempotency key, where one was sent."""
    return asked(request).key()


def required_key(request: Request) -> str:
    """The idempotency key. Raises `idempotency_key_missing`."""
    key = sent_key(request)
    if key is None:
        raise ProblemError("idempotency_key_missing", "send an Idempotency-Key header")
    return key


def replay_headers(replayed: bool) -> dict[str, str]:  # noqa: FBT001 - it says what it is
    """The header of an answer that was given before."""
    return {"Idempotent-Replayed": "true"} if replayed else {}


def path_value(request: Request, name: str) -> str:
    """A parameter of the path, percent-decoded only now: until here a slash in it was no separator."""
    return hot.segment(request.path_params[name])


def query_values(request: Request, *allowed: str) -> dict[str, str]:
    """The parameters of the query. Raises `InvalidRequest` for one that is unknown or comes twice."""
    return read_values(asked(request).query, *allowed)


def json_response(status: int, content: object, headers: Mapping[str, str] | None = None) -> Response:
    """An answer with a body."""
    return Response(encode(content), status, headers, "application/json")


def entity_tag(tagged: object) -> str:
    """The entity tag of what callers compare."""
    return f'"{blake2b(encode(tagged), digest_size=8).hexdigest()}"'


def tagged_response(request: Request, content: object, tagged: object) -> Response:
    """An answer with an entity tag made of the part of it that callers compare; 304 where they know it."""
    tag = entity_tag(tagged)
    known = asked(request).headers.get(b"if-none-match")
    if known is not None and hot.matches(known, tag.encode()):
        return Response(status_code=304, headers={"ETag": tag})
    return json_response(200, content, {"ETag": tag})


def problem_response(error: Exception, request: Request) -> Response:
    """The problem document of an exception."""
    status, body, headers = problem_answer(error, asked(request))
    response = Response(body, status)
    response.raw_headers.extend(headers)
    return response
