"""The refusal of a request that nobody reads: what it must be answered with is found without parsing it.

A request that is not plain to see through is left to the parser: `refuse_unread` then gives None.
"""

from collections.abc import Callable, Mapping
from re import compile as compile_pattern

from api.codec import encode
from api.problems import as_problem
from engine.errors import Overloaded

UNREAD = "more is asked than can be done; nothing happened"
_LONGEST_LINE = 1024
_PLAIN = compile_pattern(rb"[!#-\[\]-~]+")
_NOT_PLAIN = (b"\r\ntransfer-encoding", b"\r\nexpect", b"\r\nupgrade", b" :", b"\t:")
"""What makes a head, in lower case, one for the parser."""
_KEEP_ALIVE = b"\r\nconnection: keep-alive\r\n"
_ABSENT: Mapping[bytes, bytes] = {}
_PROBLEM = as_problem(Overloaded(UNREAD))
# The document with places for what differs from request to request.
_PARTS = encode(_PROBLEM.document("\0", "\1")).replace(rb"\u0000", b"%b").replace(rb"\u0001", b"%b")
_EXTRA = len(_PARTS) - 2 * len(b"%b")
_HEAD = (
    b"HTTP/1.1 503 Service Unavailable\r\n%bcontent-type: application/problem+json\r\nretry-after: "
    + _PROBLEM.headers["Retry-After"].encode()
    + b"\r\nx-request-id: %b\r\ncontent-length: %d\r\n\r\n"
    + _PARTS
)


def refuse_unread(
    data: bytes, defaults: bytes, request_id: Callable[[Mapping[bytes, bytes]], str]
) -> bytes | None:
    """The whole answer to data that is exactly one plain request, or None. `defaults` are the headers that
    every answer has.
    """
    end, line = data.find(b"\r\n\r\n"), data.find(b" HTTP/1.1\r\n", 0, _LONGEST_LINE)
    if end < 0 or line < 0:
        return None
    head = data[: end + 2].lower()
    if not _is_plain(head):
        return None
    length, name = _value(head, data, b"\r\ncontent-length"), _value(head, data, b"\r\nx-request-id")
    path = data[data.find(b" ") + 1 : line].partition(b"?")[0]
    if length is None or name is None or not _PLAIN.fullmatch(path) or (name and not _PLAIN.fullmatch(name)):
        return None
    if (length and not length.isdigit()) or len(data) != end + 4 + int(length or b"0"):
        return None
    own_id = request_id({b"x-request-id": name} if name else _ABSENT).encode()
    return _HEAD % (defaults, own_id, _EXTRA + len(path) + len(own_id), path, own_id)


def _is_plain(head: bytes) -> bool:
    """Whether nothing in a head, in lower case, says that more than its length decides where it ends."""
    for mark in _NOT_PLAIN:
        if mark in head:
            return False
    if head.count(b"\n") != head.count(b"\r\n"):
        return False
    at = head.find(b"\r\nconnection")
    return at < 0 or head.startswith(_KEEP_ALIVE, at)


def _value(head: bytes, data: bytes, name: bytes) -> bytes | None:
    """The value of a header; nothing where there is none, None where there are several or an odd one."""
    at = head.find(name)
    if at < 0:
        return b""
    begin = at + len(name)
    if head[begin : begin + 1] != b":" or head.find(name, begin) >= 0:
        return None
    return data[begin + 1 : head.index(b"\r\n", begin)].strip(b" \t") or None
