"""The OpenAPI 3.1 document: the Structs of `schemas.py` and the operations of `operations`, put together."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import msgspec

from api.access_table import rule_of
from api.codec import encode
from api.operations import OPERATIONS
from api.operations.model import BODY, Operation, Parameter
from api.problems import PROBLEMS, ProblemError
from api.remedies import REMEDIES
from api.schemas import PATTERN_END, ProblemAnswer

JSON = "application/json"
PROBLEM = "application/problem+json"
_REFERENCE = "#/components/schemas/{name}"
_REPLAYING = {"Reservations", "Transfers", "Inbound", "Keys"}
"""Tags of operations whose repeats are answered as the first was."""
_KEY_SCHEMA = {"type": "string", "pattern": r'^("[!-~]{1,255}"|[!#-~][!-~]{0,254})$'}
_REQUIRED_KEY = "Of your choice: new for a new request, the same for a repeat of it."
_KEY_MEANINGS = {
    "required": _REQUIRED_KEY,
    "partial": f"{_REQUIRED_KEY} Required with `lines`; without them a repeat does no harm.",
    "optional": f"{_REQUIRED_KEY} Not required: a repeat does no harm.",
}
_DESCRIPTION = """\
One atomic core that promises the stock of every location to every channel, and never a unit twice.

Errors are problem documents (RFC 9457): `code` names the problem, `retryable` says whether to send the
request again (`never`, `same_key`, `new_key`). A SKU in a path is percent-encoded."""


def build_document(version: str, *, asks_keys: bool = True) -> bytes:
    """The document, of a server that asks for keys or of one that does not. Cost: some milliseconds, once."""
    paths: dict[str, dict[str, Any]] = defaultdict(dict)
    for operation in OPERATIONS:
        described = _operation(operation)
        if asks_keys:
            described["security"] = _security(operation)
        paths[operation.path][operation.method.lower()] = described
    document = {
        "openapi": "3.1.0",
        "info": {
            "title": "Bincard",
            "version": version,
            "summary": "Real-time unified inventory",
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name} for name in dict.fromkeys(operation.tag for operation in OPERATIONS)],
        "paths": paths,
        "components": {
            "schemas": _schemas(),
            "headers": _HEADERS,
            "securitySchemes": {"key": _KEY_SCHEME},
            "examples": {code: {"value": _problem_example(code)} for code in PROBLEMS},
        },
    }
    return encode(document).replace(encode(PATTERN_END)[1:-1], b"$")


_KEY_SCHEME = {
    "type": "http",
    "scheme": "bearer",
    "bearerFormat": "bck_…",
    "description": (
        "An API key. Of several scopes one is enough. Without one of them: 403 `forbidden`; without a valid "
        "key, whatever is wrong with it: 401 `unauthenticated`. What lies outside the locations and channels "
        "of a key answers as if it were not there."
    ),
}
_HEADERS: Mapping[str, Any] = {
    "WWW-Authenticate": {"description": "How to say who calls.", "schema": {"type": "string"}},
    "X-Request-Id": {"description": "The id that was sent, or a new one.", "schema": {"type": "string"}},
    "ETag": {"description": "For If-None-Match.", "schema": {"type": "string"}},
    "Idempotent-Replayed": {
        "description": "`true` where this is the answer of an earlier, equal request.",
        "schema": {"const": "true"},
    },
    "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "string", "pattern": "^[0-9]+$"}},
    "RateLimit": {
        "description": "Requests that are left, and seconds until all are back.",
        "schema": {"type": "string"},
    },
    "RateLimit-Policy": {"description": "How many, in how many seconds.", "schema": {"type": "string"}},
    "Location": {"description": "Where it can be read.", "schema": {"type": "string"}},
}

_TOLD: Mapping[int, Sequence[str]] = {
    HTTPStatus.UNAUTHORIZED: ("WWW-Authenticate",),
    HTTPStatus.SERVICE_UNAVAILABLE: ("Retry-After",),
    HTTPStatus.TOO_MANY_REQUESTS: ("Retry-After", "RateLimit", "RateLimit-Policy"),
}


def _schemas() -> dict[str, Any]:
    structs: dict[type[msgspec.Struct], None] = {ProblemAnswer: None}
    for operation in OPERATIONS:
        for used in (operation.body, *operation.answers.values()):
            if used is not None and not isinstance(used, str):
                structs[used] = None
    components: dict[str, Any] = msgspec.json.schema_components(structs, ref_template=_REFERENCE)[1]
    return components


def _operation(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.name,
        "tags": [operation.tag],
        "summary": operation.summary,
        "parameters": list(_parameters(operation)),
        "responses": _responses(operation),
    }
    if operation.description:
        described["description"] = operation.description
    if operation.body is not None:
        content: dict[str, Any] = {"schema": _reference(operation.body)}
        if operation.request_example is not None:
            content["example"] = operation.request_example
        described["requestBody"] = {
            "required": not operation.body_is_optional,
            "content": {JSON: content},
        }
    return described


def _security(operation: Operation) -> list[dict[str, Any]]:
    """The scopes of which one is enough; nothing for a public operation."""
    return [{"key": [scope]} for scope in sorted(rule_of(operation.path, operation.method).scopes)]


def _parameters(operation: Operation) -> Iterable[dict[str, Any]]:
    yield from (_parameter(parameter) for parameter in operation.parameters)
    if operation.key:
        yield {
            "name": "Idempotency-Key",
            "in": "header",
            "required": operation.key == "required",
            "description": _KEY_MEANINGS[operation.key],
            "schema": _KEY_SCHEMA,
            "example": "cart-81-attempt-1",
        }
    if operation.has_tag:
        yield {
            "name": "If-None-Match",
            "in": "header",
            "required": False,
            "description": "The ETag of an answer that you have: 304 where nothing has changed.",
            "schema": {"type": "string"},
        }


def _parameter(parameter: Parameter) -> dict[str, Any]:
    schema = parameter.schema
    described: dict[str, Any] = {
        "name": parameter.name,
        "in": parameter.place,
        "required": parameter.is_required or parameter.place == "path",
        "description": parameter.meaning,
        "schema": {"type": "array", "items": schema} if parameter.repeats else schema,
    }
    if parameter.example is not None:
        described["example"] = parameter.example
    return described


def problems_of(operation: Operation) -> list[str]:
    """The codes that an operation may answer, those included that come with its body and its key."""
    codes = list(operation.problems)
    if operation.path.startswith("/v1/"):
        codes.append("quota_exceeded")
    if not rule_of(operation.path, operation.method).is_public:
        codes += ["unauthenticated", "forbidden", "storage_unavailable"]
    if JSON in _media(operation):
        codes.append("not_acceptable")
    if operation.body is not None:
        codes += BODY
    if operation.key:
        codes.append("idempotency_key_invalid")
    if operation.key in {"required", "partial"} and operation.body is not None:
        codes.append("idempotency_key_missing")
    return sorted(set(codes), key=list(PROBLEMS).index)


def _media(operation: Operation) -> set[str]:
    if operation.tag in {"Service", "Documentation"}:
        return set()
    return {JSON}


def _responses(operation: Operation) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for status, answer in operation.answers.items():
        responses[str(status)] = _success(operation, status, answer)
    if operation.has_tag:
        responses["304"] = {"description": "Nothing has changed.", "headers": _headers("ETag")}
    by_status: dict[int, list[str]] = defaultdict(list)
    for code in problems_of(operation):
        by_status[PROBLEMS[code].status].append(code)
    for status, codes in by_status.items():
        responses[str(status)] = {
            "description": "; ".join(f"`{code}`: {PROBLEMS[code].title}" for code in codes),
            "headers": _headers(*_TOLD.get(status, ())),
            "content": {
                PROBLEM: {
                    "schema": _reference(ProblemAnswer),
                    "examples": {code: {"$ref": f"#/components/examples/{code}"} for code in codes},
                }
            },
        }
    return responses


def _success(operation: Operation, status: int, answer: type[msgspec.Struct] | str | None) -> dict[str, Any]:
    names = ["ETag"] if operation.has_tag else []
    if operation.tag in _REPLAYING and operation.key:
        names.append("Idempotent-Replayed")
    if status in {HTTPStatus.CREATED, HTTPStatus.TEMPORARY_REDIRECT}:
        names.append("Location")
    described: dict[str, Any] = {"description": HTTPStatus(status).phrase, "headers": _headers(*names)}
    if operation.leads_to:
        described["links"] = {
            name: {"operationId": name, "parameters": {"id": "$response.body#/id"}}
            for name in operation.leads_to
        }
    if isinstance(answer, str):
        described["content"] = {answer: {}}
    elif answer is not None:
        content: dict[str, Any] = {"schema": _reference(answer)}
        if operation.answer_example is not None:
            content["example"] = operation.answer_example
        described["content"] = {JSON: content}
    return described


def _headers(*names: str) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in ("X-Request-Id", *names)}


def _reference(struct: type[msgspec.Struct]) -> dict[str, str]:
    return {"$ref": _REFERENCE.format(name=struct.__name__)}


def _problem_example(code: str) -> dict[str, Any]:
    return ProblemError(code, REMEDIES[code]).document("/v1/reservations", "4f1c2a9b-1")
