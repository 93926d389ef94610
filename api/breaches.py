"""What a caller is told who has gone beyond a limit."""

from api.limits import MOST_HEADERS, MOST_REQUEST_LINE_BYTES, Limits
from api.problems import ProblemError
from engine.errors import Overloaded


def too_large(limits: Limits) -> ProblemError:
    """The refusal of a body."""
    return ProblemError("payload_too_large", f"a body has at the most {limits.max_body_bytes} bytes")


def breach_of(limit: str, limits: Limits) -> Exception:
    """The problem of a limit, named as metrics name it."""
    match limit:
        case "body_bytes":
            return too_large(limits)
        case "head_bytes":
            detail = f"request line and headers have at the most {limits.max_head_bytes} bytes"
            return ProblemError("headers_too_large", detail)
        case "headers":
            return ProblemError("headers_too_large", f"a request has at the most {MOST_HEADERS} headers")
        case "request_line":
            detail = f"path and query have at the most {MOST_REQUEST_LINE_BYTES} bytes"
            return ProblemError("uri_too_long", detail)
        case "head_time" | "body_time":
            return ProblemError("request_timeout", f"the {limit[:4]} of the request did not arrive in time")
        case _:
            return Overloaded("too much is on its way to this server; nothing happened")
