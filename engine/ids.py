"""Operation ids and reservation ids.

An operation id is 12 bytes: a keyed hash of who calls and the id that the caller chose. A reservation
is filed under the operation id of the reserve that made it, so its public id is that hash together with
the route of its first SKU: it needs no look-up, holds for any number of partitions, and cannot be guessed
without the data set's secret.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from binascii import crc_hqx
from functools import lru_cache
from hashlib import blake2b

OPERATION_ID_SIZE = 12
FINGERPRINT_SIZE = 8
NO_OPERATION = bytes(OPERATION_ID_SIZE)
NO_FINGERPRINT = bytes(FINGERPRINT_SIZE)
"""Of a step that is not to be remembered."""
MARK = slice(2, 5)
"""Where an operation id has its caller: apart from what chooses its keeper and what its parts change."""
RESERVATION_PREFIX = "r_"
TRANSFER_PREFIX, INBOUND_PREFIX = "t_", "i_"
_TEXT_LENGTH = 22


class OperationIds:
    """Makes the operation ids of one data set."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._requests = blake2b(key=secret, digest_size=OPERATION_ID_SIZE, person=b"request")
        self._movements = blake2b(key=secret, digest_size=OPERATION_ID_SIZE, person=b"movement")
        self._openings = blake2b(key=secret, digest_size=OPERATION_ID_SIZE, person=b"opening")
        self._supplies = blake2b(key=secret, digest_size=OPERATION_ID_SIZE, person=b"supply")

    def of_request(self, caller: str, key: str) -> bytes:
        """The operation id of a request's idempotency key. Cost: about a microsecond."""
        digest = self._requests.copy()
        digest.update(f"{caller}\0{key}".encode())
        return _marked(digest.digest(), caller) if caller > " " else digest.digest()

    def of_movement(self, caller: str, key: str) -> bytes:
        """The operation id of a movement. Apart from requests: an order number may well be both."""
        digest = self._movements.copy()
        digest.update(f"{caller}\0{key}".encode())
        return _marked(digest.digest(), caller) if caller > " " else digest.digest()

    def mark_of_page(self, asked: bytes) -> bytes:
        """What tells a cursor that we gave out from any other: of what it is a page, and where that ended."""
        return blake2b(asked, key=self._secret, digest_size=8, person=b"page").digest()

    def of_supply(self, document: bytes, step: int, sku: str) -> bytes:
        """The operation id with which a step of a document changes what is expected of a SKU."""
        digest = self._supplies.copy()
        digest.update(b"%b\0%d\0%b" % (document, step, sku.encode()))
        return digest.digest()

    def of_opening(self, epoch: int, sku: str, location: str, step: int) -> bytes:
        """The operation id of a movement with which a position begins in a data set that was repartitioned.
        No caller can name it.
        """
        digest = self._openings.copy()
        digest.update(f"{epoch}\0{sku}\0{location}\0{step}".encode())
        return digest.digest()


@lru_cache(maxsize=4096)
def caller_mark(caller: str) -> bytes:
    """What an operation id has of its caller: 3 bytes, never zeros. Callers of our own, whose names begin
    with a control character, leave none.
    """
    mark = blake2b(caller.encode(), digest_size=3, person=b"caller").digest()
    return mark if any(mark) else b"\0\0\1"


def mark_for(caller: str) -> bytes:
    """What a change that has no operation id says of its caller; zeros where it has none."""
    return caller_mark(caller) if caller > " " else NO_OPERATION[MARK]


def mark_of(operation: bytes) -> bytes:
    """What an operation id says of its caller; of one without a caller it says nothing."""
    return operation[MARK]


def unremembered(caller: str) -> bytes:
    """What stands in the place of an operation id where the caller chose none: it names the caller, and is
    not remembered.
    """
    return _marked(NO_OPERATION, caller) if caller > " " else NO_OPERATION


def is_remembered(operation: bytes) -> bool:
    """Whether an operation id of an event was chosen by the caller, and so is remembered."""
    return any(operation[MARK.stop :])


def _marked(operation: bytes, caller: str) -> bytes:
    return operation[: MARK.start] + caller_mark(caller) + operation[MARK.stop :]


def part_id(operation: bytes, route: int) -> bytes:
    """The id of the parts of a basket, which may stand beside it. The route is in it: once an id was freed by
    a refusal, its next content may have another home, whose versions tell nothing of those of the first.
    """
    return _add_to_id(operation, route + 1)


def basket_id(part: bytes, route: int) -> bytes:
    """The id of a part's basket: `basket_id` of `lua/lib/parts.lua`."""
    return _add_to_id(part, -route - 1)


def _add_to_id(operation: bytes, number: int) -> bytes:
    end = (int.from_bytes(operation[-3:], "little") + number) % 2**24
    return operation[:-3] + end.to_bytes(3, "little")


def keeper_of(operation: bytes, partitions: int) -> int:
    """The partition that keeps an operation id: it knows whether the id was used, wherever its effect is."""
    return int.from_bytes(operation[:2], "little") % partitions


def dataset_mark(secret: bytes) -> str:
    """Tells one data set from another without giving the secret away."""
    return blake2b(key=secret, digest_size=6, person=b"dataset").hexdigest()


def fingerprint(content: bytes) -> bytes:
    """Tells one request's content from another's under the same operation id: 8 bytes."""
    return blake2b(content, digest_size=FINGERPRINT_SIZE).digest()


def reservation_id(route: int, operation: bytes) -> str:
    """The public id: `r_` and 20 characters for route (2 bytes), operation id, check byte."""
    routed = route.to_bytes(2, "big") + operation
    return RESERVATION_PREFIX + urlsafe_b64encode(routed + _check(routed)).decode()


def parse_reservation_id(text: str) -> tuple[int, bytes] | None:
    """Route and operation id; None where no data set gave out such an id."""
    if len(text) != _TEXT_LENGTH or not text.startswith(RESERVATION_PREFIX):
        return None
    try:
        raw = urlsafe_b64decode(text[len(RESERVATION_PREFIX) :])
    except (Base64Error, ValueError):
        return None
    if len(raw) != OPERATION_ID_SIZE + 3 or raw[-1:] != _check(raw[:-1]):
        return None
    route, operation = int.from_bytes(raw[:2], "big"), raw[2:-1]
    # Base64 has several spellings of the same bytes; a reservation has one id.
    return (route, operation) if reservation_id(route, operation) == text else None


def document_id(prefix: str, route: int, operation: bytes) -> str:
    """The public id of a transfer or an inbound order: as that of a reservation, with another prefix."""
    return prefix + reservation_id(route, operation).removeprefix(RESERVATION_PREFIX)


def parse_document_id(prefix: str, text: str) -> tuple[int, bytes] | None:
    """Route and operation id; None where no data set gave out such an id."""
    return parse_reservation_id(RESERVATION_PREFIX + text[len(prefix) :]) if text.startswith(prefix) else None


def _check(routed: bytes) -> bytes:
    return (crc_hqx(routed, 0) & 0xFF).to_bytes(1, "big")
