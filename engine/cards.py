"""Reads the cards of the stock hash. `lua/lib/card.lua` gives their layout.

A card has the counters of a SKU's locations and the ids of the reservations with open units there. A SKU
at very many locations is divided: its own field is a divider, and each of its pages has a card.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from struct import Struct as Layout

from msgspec import Struct

from engine import limits
from engine.types import Fence, LocationAvailability, Position, Status

MAX_PLACES = 32
"""Locations of a card; a SKU with more is divided."""
PAGES = 64
BLOCK_CLAIMS = 16
"""Claims of a card; with one more, these become a block: a field of their own."""
LAST_BLOCK = 2**24 - 1
DIVIDER = b"\xff" + PAGES.to_bytes(2, "little")
"""What the field of a divided SKU has."""
CLAIM_SIZE = 12
PLAIN_COUNTERS, POLICY_COUNTERS = 4, 8
"""Counters of every place, and of one with a policy the further ones."""
UNLIMITED = 10**15
"""The backorder limit of what is not tracked: it never runs out."""
FLAGS_AT, FLAG_FENCED, FLAG_OWN_POLICY = 5, 1, 2
"""Where a place's flags stand among the counters of its policy; the one of a place where some channel has a
fence, and the one of a place whose policy is not inherited.
"""
_HEAD = Layout("<BHH")
_PREORDERED = 7
_BLOCKS = slice(5, 8), slice(8, 11)
_NAMES_AT = 11
_POLICY_FORM = 2
_LAST_FORM = 3
_IN_STOCK, _OUT_OF_STOCK = Status.IN_STOCK, Status.OUT_OF_STOCK
_NARROW, _WIDE = 4, 7
_FENCE_SIZE = 13
"""Of a fence without its channel."""
_NO_POLICY = (0,) * POLICY_COUNTERS


class Card(Struct, frozen=True, gc=False):
    """`counters` has those of all locations, one location after the other, `stride` of each. `claims` are
    ids, oldest promise first; they belong to `block`. Older claims lie in the fields of the blocks from
    `first` up to it.
    """

    locations: tuple[str, ...]
    counters: tuple[int, ...]
    stride: int
    first: int
    block: int
    claims: bytes


def place_of(location: str) -> bytes:
    """A location as it stands on a card, and as scripts want it told."""
    return b"\n%b=" % location.encode()


def page_of(location: str) -> int:
    """The page of a divided SKU that has a location."""
    number = 0
    for byte in location.encode():
        number = (number * 31 + byte) % 65_536
    return number % PAGES


def page_field(sku: str, page: int) -> str:
    """The field of the stock hash that has a page of a divided SKU."""
    return f"{sku}\n{page}"


def block_field(field: str, block: int) -> str:
    """The field of the stock hash that has a block of a card's claims."""
    return f"{field}\n\n{block}"


def fence_field(sku: str, location: str) -> str:
    """The field of the stock hash that has the fences of a position. No SKU begins with a line feed."""
    return f"\n{location}={sku}"


def split_fence_field(field: str) -> tuple[str, str]:
    """SKU and location of a field that begins with a line feed."""
    location, _, sku = field[1:].partition("=")
    return sku, location


def encode_fences(fences: Iterable[Fence]) -> bytes:
    """The fences of a position as they are stored: see `lua/lib/terms.lua`."""
    return b"".join(
        b"%c%b%b%b%c"
        % (
            len(fence.channel),
            fence.channel.encode(),
            fence.remaining.to_bytes(6, "little"),
            fence.used.to_bytes(6, "little"),
            fence.spill,
        )
        for fence in fences
    )


def decode_fences(sku: str, location: str, raw: bytes) -> list[Fence]:
    """The fences of a position, in the order in which they were made. Raises `ValueError`."""
    found, at = [], 0
    while at < len(raw):
        cut = at + 1 + raw[at]
        end = cut + _FENCE_SIZE
        if end > len(raw) or raw[end - 1] > 1:
            raise ValueError(f"{len(raw)} bytes are no fences")
        remaining, used = (int.from_bytes(raw[place : place + 6], "little") for place in (cut, cut + 6))
        channel = raw[at + 1 : cut].decode()
        found.append(Fence(channel, sku, location, remaining + used, raw[end - 1] == 1, remaining, used))
        at = end
    return found


def is_divider(raw: bytes) -> bool:
    """Whether a SKU is divided, and its field has no card of its own."""
    return raw == DIVIDER


def read_counters(card: bytes) -> tuple[tuple[str, ...], tuple[int, ...], int]:
    """The locations of a card, their counters one location after the other, and how many each has."""
    form, places, size = _HEAD.unpack_from(card)
    at = _NAMES_AT + size
    stride = PLAIN_COUNTERS if form < _POLICY_FORM else PLAIN_COUNTERS + POLICY_COUNTERS
    counters = _layout(form, places).unpack_from(card, at)
    if form & 1:
        counters = tuple([int.from_bytes(number, "little", signed=True) for number in counters])
    return _read_names(card[_NAMES_AT:at]), counters, stride


def decode_card(card: bytes) -> Card:
    """A whole card. Raises `ValueError` unless every byte is accounted for."""
    if len(card) < _NAMES_AT or card[0] > _LAST_FORM:
        raise ValueError(f"{len(card)} bytes are no card")
    form, places, size = _HEAD.unpack_from(card)
    end = _NAMES_AT + size + _layout(form, places).size
    if end > len(card) or (len(card) - end) % CLAIM_SIZE:
        raise ValueError(f"{len(card)} bytes are no card of {places} locations")
    locations, counters, stride = read_counters(card)
    if len(locations) != places:
        raise ValueError(f"a card has {len(locations)} of {places} locations")
    first, block = (int.from_bytes(card[at], "little") for at in _BLOCKS)
    return Card(locations, counters, stride, first, block, card[end:])


def split_claims(packed: bytes) -> list[bytes]:
    """The ids of claims, in their order."""
    return [packed[at : at + CLAIM_SIZE] for at in range(0, len(packed), CLAIM_SIZE)]


def read_availability(card: bytes) -> list[LocationAvailability]:
    """What each location of a card can promise."""
    locations, counters, stride = read_counters(card)
    found, at = [], 0
    for location in locations:
        free = counters[at] - counters[at + 1] - counters[at + 2] - counters[at + 3]
        if stride == PLAIN_COUNTERS:
            place = (
                LocationAvailability(location, free, _IN_STOCK)
                if free > 0
                else LocationAvailability(location, 0, _OUT_OF_STOCK)
            )
        else:
            place = _with_policy(location, free, counters[at + PLAIN_COUNTERS : at + stride])
        found.append(place)
        at += stride
    return found


def _with_policy(location: str, free: int, policy: Sequence[int]) -> LocationAvailability:
    safety_stock, backorder_limit, fenced, low_stock, inbound, _, _, preordered = policy
    free += preordered - safety_stock - fenced
    return LocationAvailability(location, *show(free, backorder_limit, low_stock, inbound - preordered))


def read_rooms(card: bytes) -> list[tuple[str, int, int]]:
    """Each location of a card with how many units could be reserved there as it is, back-orders among them,
    and how many more might come free by moving what floats.
    """
    locations, counters, stride = read_counters(card)
    found = []
    for index, location in enumerate(locations):
        on_hand, held, allocated, unsellable, *policy = counters[index * stride : (index + 1) * stride]
        room, floating = on_hand - held - allocated - unsellable, 0
        if policy:
            safety_stock, backorder_limit, fenced, _, _, _, floating, preordered = policy
            room += preordered + backorder_limit - safety_stock - fenced
        found.append((location, room, floating))
    return found


def read_shortfalls(card: bytes) -> dict[str, int]:
    """The locations of a card that promised more than they have or may owe, and how many units more."""
    locations, counters, stride = read_counters(card)
    found = {}
    for index, location in enumerate(locations):
        on_hand, held, allocated, unsellable, *policy = counters[index * stride : (index + 1) * stride]
        room = on_hand - held - allocated - unsellable
        if policy:
            room += policy[1] + policy[_PREORDERED]
        if room < 0 and held + allocated > 0:
            found[location] = min(-room, held + allocated)
    return found


def show(free: int, backorder_limit: int, low_stock: int, expected: int) -> tuple[int, Status]:
    """What is shown of a place with so many units that are free, and so many expected that nobody was
    promised: how many are available, and the status.
    """
    if backorder_limit >= UNLIMITED:
        return limits.MAX_QUANTITY, Status.IN_STOCK
    available = max(free, -backorder_limit)
    if available > low_stock:
        status = Status.IN_STOCK
    elif available > 0:
        status = Status.LOW_STOCK
    elif free + backorder_limit > 0:
        status = Status.BACKORDER
    else:
        status = Status.PREORDER if expected > 0 else Status.OUT_OF_STOCK
    return available, status


def without_holds(card: bytes, units: Mapping[str, int]) -> bytes:
    """A card as it would be without so many held units at some of its locations. Those that were promised of
    what is expected are the first of them.
    """
    form, _, size = _HEAD.unpack_from(card)
    locations, counters, stride = read_counters(card)
    width = _WIDE if form & 1 else _NARROW
    changed = bytearray(card)
    for index, location in enumerate(locations):
        own, first = units.get(location, 0), index * stride
        lowered = {first + 1: own}
        if stride > PLAIN_COUNTERS:
            preordered_at = first + PLAIN_COUNTERS + _PREORDERED
            lowered[preordered_at] = min(own, counters[preordered_at])
        for counter, less in lowered.items():
            at = _NAMES_AT + size + counter * width
            changed[at : at + width] = (counters[counter] - less).to_bytes(width, "little", signed=True)
    return bytes(changed)


def read_positions(card: bytes, version: str) -> list[Position]:
    """The counters of each location of a card."""
    locations, counters, stride = read_counters(card)
    found = []
    for index, location in enumerate(locations):
        numbers = counters[index * stride : (index + 1) * stride]
        on_hand, held, allocated, unsellable = numbers[:PLAIN_COUNTERS]
        policy = numbers[PLAIN_COUNTERS:] or _NO_POLICY
        safety_stock, backorder_limit, fenced, low_stock, inbound, flags, _, preordered = policy
        free = on_hand - unsellable - allocated - held + preordered - safety_stock - fenced
        found.append(
            Position(
                location,
                on_hand,
                held,
                allocated,
                unsellable,
                safety_stock,
                backorder_limit,
                fenced,
                low_stock,
                inbound,
                preordered,
                show(free, backorder_limit, low_stock, inbound - preordered)[0],
                version,
                state=",".join(map(str, numbers)),
                has_policy=flags & FLAG_OWN_POLICY != 0,
            )
        )
    return found


@lru_cache(maxsize=256)
def _layout(form: int, places: int) -> Layout:
    count = places * (PLAIN_COUNTERS if form < _POLICY_FORM else PLAIN_COUNTERS + POLICY_COUNTERS)
    return Layout("<" + f"{_WIDE}s" * count if form & 1 else f"<{count}i")


@lru_cache(maxsize=4096)
def _read_names(names: bytes) -> tuple[str, ...]:
    """The locations that a card names. Raises `ValueError` where they do not come in their order."""
    found: list[str] = []
    at = 0
    while at < len(names):
        end = names.index(b"=", at)
        index = int.from_bytes(names[end + 1 : end + 3], "little")
        if names[at] != ord("\n") or index != len(found):
            raise ValueError("a card's names are torn")
        found.append(names[at + 1 : end].decode())
        at = end + 3
    return tuple(found)
