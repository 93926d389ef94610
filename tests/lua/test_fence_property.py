"""Whatever happens at a position, its fences stay true of what their channels hold. Nobody can take more than
is there, in whatever order they ask.
"""

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.setting_forms import encode_setting
from engine.types import Buffer, Channel, Location, LocationKind, Pool
from tests.lua.books import (
    FENCED_HERE,
    Books,
    Card,
    Group,
    Hold,
    Position,
    Rules,
    Settings,
    choose,
    fence_field,
    move,
    name,
    read_card,
    reserve,
    resolve,
    save_fence,
    save_policy,
    source,
)

CHANNELS = ("web", "app", "pos")
MOST = 10**9
SETTINGS = Settings(
    5,
    locations={"W": encode_setting(Location("W", LocationKind.STORE))},
    pools={"all": encode_setting(Pool("all", ("W",)))},
    channels={
        "web": encode_setting(Channel("web", ("all",))),
        "app": encode_setting(Channel("app", ("all",), Buffer(units=1))),
        "pos": encode_setting(Channel("pos", ("all",))),
    },
)
units, channels, numbers = st.integers(0, 9), st.sampled_from(CHANNELS), st.integers(0, 30)
ACTIONS = st.one_of(
    st.tuples(st.just("fence"), channels, units, st.integers(0, 1)),
    st.tuples(st.just("unfence"), channels),
    st.tuples(st.just("policy"), st.tuples(st.integers(0, 3), st.integers(0, 3), st.just(0))),
    st.tuples(st.just("move"), st.integers(-6, 9)),
    st.tuples(st.just("plain"), st.integers(1, 6)),
    st.tuples(st.just("take"), channels, st.integers(1, 6), st.booleans()),
    st.tuples(
        st.just("step"),
        st.sampled_from(["release", "commit", "cancel", "fulfil", "sell", "keep"]),
        numbers,
        st.integers(0, 4),
    ),
)
STEPS = {
    "release": ("release", lambda chosen: chosen),
    "cancel": ("cancel", lambda chosen: chosen),
    "fulfil": ("fulfil", lambda chosen: chosen),
    "commit": ("commit", lambda chosen: bytes(3) + chosen),
    "sell": ("commit", lambda chosen: b"\1\0\0" + chosen),
    "keep": ("commit", lambda chosen: b"\0\1\0" + chosen),
}


class Counter:
    """Does things at one position, and knows by name who holds what."""

    def __init__(self, books: Books) -> None:
        self.books = books
        self.made: dict[bytes, str] = {}
        self.count = 0
        books.seed(stock={"shoe": Card({"W": Position(10)})}, settings=SETTINGS)

    def fresh(self) -> bytes:
        self.count += 1
        return name(self.count)

    def take(self, channel: str, quantity: int, *, named: bool = True) -> Any:  # noqa: ANN401 - a server's answer
        """A reserve of a channel, at the place or wherever its pools have it."""
        own = self.fresh()
        place = "W" if named else None
        answer = self.books.one(
            source(own, [Group(quantity, place, (("shoe", 1),))], Rules(channel=channel or None))
        )
        if isinstance(answer[0], int):
            self.made[own] = channel
        return answer

    def act(self, action: tuple[Any, ...]) -> None:
        match action:
            case "fence", channel, quantity, spill:
                self.books.one(save_fence(channel, "shoe", "W", quantity, spill))
            case "unfence", channel:
                self.books.one(save_fence(channel, "shoe", "W"))
            case "policy", numbers:
                self.books.one(save_policy("shoe", "W", numbers))
            case "move", quantity:
                self.books.one(move(self.fresh(), quantity or 1))
            case "plain", quantity:
                own = self.fresh()
                if isinstance(self.books.one(reserve(own, Hold((("shoe", "W", quantity),)))), int):
                    self.made[own] = ""
            case "take", channel, quantity, named:
                self.take(channel, quantity, named=named)
            case "step", step, number, quantity if self.made:
                verb, own = STEPS[step]
                reservation = list(self.made)[number % len(self.made)]
                chosen = choose((0, quantity)) if quantity else choose()
                asked = resolve(verb, reservation, own(chosen), known=0, operation=self.fresh())
                self.books.one(asked)

    def position(self) -> Position:
        return read_card(self.books.read()[self.books.key("stock")][b"shoe"]).positions["W"]

    def fences(self) -> dict[str, tuple[int, int]]:
        """Remaining and used units by channel."""
        raw = self.books.read()[self.books.key("stock")].get(fence_field("shoe", "W").encode(), b"")
        found = {}
        while raw:
            end = 1 + raw[0]
            numbers = (
                int.from_bytes(raw[end : end + 6], "little"),
                int.from_bytes(raw[end + 6 : end + 12], "little"),
            )
            found[raw[1:end].decode()] = numbers
            raw = raw[end + 13 :]
        return found

    def open_units(self, channel: str) -> int:
        """What the records of a channel say that it has open."""
        records = self.books.read().get(self.books.key("ops"), {})
        return sum(_open(records[own]) for own, maker in self.made.items() if maker == channel)


def _open(record: bytes) -> int:
    head = record[-36:]
    rows, state = head[-4], head[-3]
    quantity = int.from_bytes(record[33 + 1 : 33 + 6], "little")
    if rows:
        return int.from_bytes(record[-56:-51], "little") + int.from_bytes(record[-51:-46], "little")
    return quantity if state in {1, 2} else 0


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=st.lists(ACTIONS, max_size=25), order=st.permutations(["", *CHANNELS]))
def test_fences_never_add_up_to_more_than_is_there(
    books: Books, actions: list[tuple[Any, ...]], order: list[str]
) -> None:
    counter = Counter(books)
    for action in actions:
        counter.act(action)
        position, fences = counter.position(), counter.fences()
        assert position.fenced == sum(remaining for remaining, _ in fences.values())
        assert (position.flags & FENCED_HERE) == (FENCED_HERE if fences else 0)
        for channel, (_, used) in fences.items():
            assert used <= counter.open_units(channel)
    before = counter.position()
    there = before.on_hand - before.unsellable + before.backorder_limit - before.held - before.allocated
    taken = 0
    for channel in order:
        position, (remaining, _) = counter.position(), counter.fences().get(channel, (0, 0))
        free = position.on_hand - position.held - position.allocated - position.safety_stock
        refusal = counter.take(channel, MOST)
        assert refusal[0] == b"insufficient_stock", refusal
        quantity = refusal[3]
        assert quantity >= min(remaining, free + position.backorder_limit)
        got = counter.take(channel, quantity)[0] if quantity else 0
        assert isinstance(got, int)
        taken += quantity
        assert taken <= max(0, there)
