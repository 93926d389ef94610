"""When promised goods will be there, between HTTP and the engine."""

from urllib.parse import parse_qs

from msgspec.structs import asdict, astuple, replace

from api.codec import format_time, reservation_answer
from api.schemas import ReservationAnswer, ReservationLineAnswer
from api.schemas_supply import UncoveredAnswer
from engine import InvalidRequest, Inventory, Reservation

_FLAGS = {"true": True, "false": False}


async def promised_answer(inventory: Inventory, reservation: Reservation) -> ReservationAnswer:
    """A reservation, with when those of its units that are not there yet will be, as of now."""
    promises = await inventory.promises(reservation.id)
    lines = []
    for line in reservation.lines:
        promise = promises.get((line.sku, line.location))
        waiting, at_ms, undated = (0, None, 0) if promise is None else astuple(promise)
        promise_at = None if at_ms is None else format_time(at_ms)
        lines.append(
            ReservationLineAnswer(**asdict(line), waiting=waiting, promise_at=promise_at, undated=undated)
        )
    return replace(reservation_answer(reservation), lines=lines)


async def uncovered_answer(inventory: Inventory, sku: str, location: str) -> list[UncoveredAnswer]:
    """The promises of a position that nothing covers any more, the newest first, as of now."""
    found = await inventory.uncovered(sku, location)
    return [UncoveredAnswer(one.reservation, one.quantity) for one in found]


def wants_promises(query: bytes) -> bool:
    """Whether the query of a reservation asks for them. Raises `invalid_request` naming the parameter."""
    try:
        given = parse_qs(query.decode("ascii"), keep_blank_values=True, errors="strict")
    except UnicodeError as error:
        raise InvalidRequest("", "the query is percent-encoded UTF-8") from error
    for name in given:
        if name != "promises":
            raise InvalidRequest(f"?{name}", "there is no such parameter")
    wanted = _FLAGS.get(given.get("promises", ["false"])[0])
    if wanted is None:
        raise InvalidRequest("?promises", "true or false")
    return wanted
