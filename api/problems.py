"""Every problem that HTTP may answer: one table, one handler.

A problem's `code` is the engine's word where the engine decided, so one word names it everywhere: what
Lua returned, the exception, the document, the metric's label, the heading in the documentation.
"""

from collections.abc import Mapping
from logging import getLogger
from re import DOTALL
from re import compile as compile_pattern
from typing import Any

import msgspec
from msgspec import Struct

from api.limits import MOST_DEPTH
from engine import errors
from engine.outcomes import RETRY, Outcome, Retry

log = getLogger("bincard.http")


class Problem(Struct, frozen=True):
    """A row of the table."""

    status: int
    title: str
    retryable: Retry


def _engine(status: int, outcome: Outcome, title: str) -> tuple[str, Problem]:
    return outcome.value, Problem(status, title, RETRY[outcome])


PROBLEMS: dict[str, Problem] = {
    "malformed_json": Problem(400, "The body is no JSON", Retry.NEVER),
    "malformed_request": Problem(400, "The request cannot be read", Retry.NEVER),
    "idempotency_key_missing": Problem(400, "The request needs an Idempotency-Key", Retry.NEVER),
    "idempotency_key_invalid": Problem(400, "The Idempotency-Key cannot be used", Retry.NEVER),
    "unauthenticated": Problem(401, "No valid API key was sent", Retry.NEVER),
    "forbidden": Problem(403, "The API key does not allow this", Retry.NEVER),
    "not_found": Problem(404, "There is nothing at this address", Retry.NEVER),
    "method_not_allowed": Problem(405, "The address does not take this method", Retry.NEVER),
    "not_acceptable": Problem(406, "Only JSON can be answered", Retry.NEVER),
    "request_timeout": Problem(408, "The request did not arrive in time", Retry.SAME_KEY),
    "payload_too_large": Problem(413, "The body is too large", Retry.NEVER),
    "uri_too_long": Problem(414, "Path and query are too long", Retry.NEVER),
    "precondition_required": Problem(428, "The request needs an If-Match", Retry.NEVER),
    "unsupported_media_type": Problem(415, "The body must be JSON", Retry.NEVER),
    "quota_exceeded": Problem(429, "The caller asks too often", Retry.SAME_KEY),
    "headers_too_large": Problem(431, "The headers are too large", Retry.NEVER),
    "invalid_request": Problem(422, "A field of the request is not valid", Retry.NEVER),
    "internal_error": Problem(500, "The server failed", Retry.SAME_KEY),
    "draining": Problem(503, "This server is about to stop", Retry.SAME_KEY),
    **dict(
        (
            _engine(404, Outcome.RESERVATION_NOT_FOUND, "There is no such reservation"),
            _engine(404, Outcome.LOCATION_NOT_FOUND, "There is no such location"),
            _engine(404, Outcome.POOL_NOT_FOUND, "There is no such pool"),
            _engine(404, Outcome.CHANNEL_NOT_FOUND, "There is no such channel"),
            _engine(404, Outcome.ITEM_NOT_FOUND, "Nothing was set for the item"),
            _engine(404, Outcome.KEY_NOT_FOUND, "There is no such API key"),
            _engine(404, Outcome.SKU_NOT_FOUND, "There is no such SKU"),
            _engine(404, Outcome.NOT_STOCKED, "The location does not stock the SKU"),
            _engine(404, Outcome.POLICY_NOT_FOUND, "The position has no policy"),
            _engine(404, Outcome.FENCE_NOT_FOUND, "There is no such fence"),
            _engine(409, Outcome.INSUFFICIENT_STOCK, "There is not enough stock"),
            _engine(409, Outcome.NOT_COMMITTED, "Nothing of the reservation is committed"),
            _engine(409, Outcome.ALREADY_COMMITTED, "The reservation is committed"),
            _engine(409, Outcome.ALREADY_RELEASED, "The reservation was released"),
            _engine(409, Outcome.ALREADY_FULFILLED, "The reservation was fulfilled"),
            _engine(409, Outcome.ALREADY_CANCELLED, "The reservation was cancelled"),
            _engine(409, Outcome.EXCEEDS_OPEN_QUANTITY, "The reservation has fewer units open"),
            _engine(409, Outcome.QUANTITY_OUT_OF_RANGE, "The count would leave its range"),
            _engine(404, Outcome.TRANSFER_NOT_FOUND, "There is no such transfer"),
            _engine(404, Outcome.INBOUND_NOT_FOUND, "There is no such inbound order"),
            _engine(409, Outcome.NOT_SHIPPED, "The transfer was not shipped"),
            _engine(409, Outcome.ALREADY_CLOSED, "No more goods will come"),
            _engine(412, Outcome.VERSION_MISMATCH, "The position has changed"),
            _engine(409, Outcome.LOCATION_IN_USE, "The location holds stock or promises"),
            _engine(409, Outcome.POOL_IN_USE, "A channel sells from the pool"),
            _engine(409, Outcome.CHANNEL_IN_USE, "The channel has fences"),
            _engine(409, Outcome.ITEM_IN_USE, "The item is stocked, or part of a kit"),
            _engine(409, Outcome.FENCE_IN_USE, "The channel has promised units of the fence"),
            _engine(410, Outcome.RESERVATION_EXPIRED, "The reservation has expired"),
            _engine(422, Outcome.IDEMPOTENCY_MISMATCH, "The key was used with other content"),
            _engine(503, Outcome.OVERLOADED, "The server has too much to do"),
            _engine(503, Outcome.MEMORY_FULL, "The server's memory is full"),
            _engine(503, Outcome.REPLICAS_UNAVAILABLE, "Too few replicas are there"),
            _engine(503, Outcome.STORAGE_UNAVAILABLE, "The stock server cannot be reached"),
            _engine(503, Outcome.UNCONFIRMED, "Whether it took effect is not known"),
        )
    ),
}


_FIELD = compile_pattern(r"Object (?:missing required|contains unknown) field `(.*)`", DOTALL)


class ProblemError(Exception):
    """Ends a request with a problem of the table. `extra` goes into the document as it is."""

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        **extra: Any,  # noqa: ANN401 - members of a JSON document
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.headers = dict(headers or {})
        self.extra = extra

    @property
    def status(self) -> int:
        """The HTTP status of the problem."""
        return PROBLEMS[self.code].status

    def document(self, instance: str, request_id: str) -> dict[str, Any]:
        """The RFC 9457 document."""
        problem = PROBLEMS[self.code]
        return {
            "type": f"/problems/{self.code}",
            "title": problem.title,
            "status": problem.status,
            "detail": self.detail,
            "instance": instance,
            "code": self.code,
            "request_id": request_id,
            "retryable": problem.retryable.value,
            **self.extra,
        }


def as_problem(error: Exception) -> ProblemError:  # noqa: PLR0911 - one return for each row
    """The problem that tells of an exception; the only place that maps one to the other."""
    match error:
        case ProblemError():
            return error
        case errors.InvalidRequest():
            return ProblemError(
                "invalid_request",
                str(error),
                errors=[{"pointer": error.field, "detail": error.remedy}],
            )
        case errors.InsufficientStock():
            return ProblemError(error.outcome, error.detail, shortages=error.shortages)
        case errors.ExceedsOpenQuantity():
            return ProblemError(error.outcome, error.detail, excess=error.excess)
        case errors.Unavailable() | errors.Unconfirmed():
            retry_after = {"Retry-After": str(error.retry_after_seconds)}
            return ProblemError(error.outcome, error.detail, headers=retry_after)
        case errors.OutcomeError():
            return ProblemError(error.outcome, error.detail)
        case msgspec.ValidationError():
            detail, pointer = split_validation_error(str(error))
            return ProblemError(
                "invalid_request",
                f"{pointer or 'the body'}: {detail}",
                errors=[{"pointer": pointer, "detail": detail}],
            )
        case msgspec.DecodeError() | UnicodeError():
            return ProblemError("malformed_json", f"the body is no JSON: {error}")
        case RecursionError():
            return ProblemError(
                "malformed_json",
                f"the body is nested too deeply: metadata at the most {MOST_DEPTH} deep, nothing else",
            )
        case _:
            return ProblemError(
                "internal_error", "the server failed; its log tells more under the request id"
            )


def as_logged_problem(error: Exception, request_id: str) -> ProblemError:
    """The problem that tells of an exception; what we did not foresee is logged."""
    problem = as_problem(error)
    if problem.code == "internal_error":
        log.error("request %s failed", request_id, exc_info=error)
    return problem


def split_validation_error(text: str) -> tuple[str, str]:
    """The detail and the JSON pointer of `Expected … - at `$.lines[0].sku``. A field that is missing or
    unknown is what the pointer leads to, not the object around it.
    """
    detail, _, path = text.partition(" - at `")
    pointer = path.removesuffix("`").removeprefix("key in ").removeprefix("$")
    pointer = pointer.replace("[", "/").replace("]", "").replace(".", "/")
    field = _FIELD.fullmatch(detail)
    if field is not None:
        pointer += "/" + field[1].replace("~", "~0").replace("/", "~1")
    return detail, pointer
