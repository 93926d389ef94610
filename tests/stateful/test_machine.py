"""Random lives of a shop, on a real server and in the model at once."""

import asyncio
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import ClassVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from engine.types import Supply, SupplyKind
from tests.driver import LOCATIONS, RETENTION_SECONDS, Shop, open_shop, send_together, skus_in
from tests.model import Answer, Booked, Call, Lines, Refusal, Told, Verb, expect
from tests.model_facts import FACTS
from tests.policies import change_fence, change_policy, open_channel
from tests.servers import Control, Server

PLACES = LOCATIONS[:2]
KEPT_CALLS = 40

quantities = st.integers(1, 7)
ttls = st.sampled_from((1, 2, 5, 5, 30))
coins = st.booleans()
# One request in four is sent twice: at once, so that both are in one batch, or one after the other.
sendings = st.sampled_from(("once",) * 6 + ("together", "again"))
picks = st.integers(0, 10**6)
# Now, a moment ago, days ago, before the history, and a clock that is ahead.
ages = st.sampled_from((0, 1, 2, 500, 1000, 5000, 7_200_000, 10**8, 2 * 10**9, 90 * 10**8, -1000))
places = st.sampled_from(PLACES)


class ShopMachine(RuleBasedStateMachine):
    """Every request goes to the engine and to the model; the answers and the books must be equal."""

    open_one: Callable[[], Shop]
    run: Callable[..., object]
    seen: ClassVar[Counter[str]]

    def __init__(self) -> None:
        super().__init__()
        self.shop = type(self).open_one()
        here, other = 0, self.shop.partitions - 1
        names = skus_in(here, self.shop.partitions)
        elsewhere = skus_in(other, self.shop.partitions)
        self.groups = ((next(names), next(names)), (next(elsewhere),))
        if here == other:
            self.groups = (self.groups[0], (next(names),))
        self.skus = tuple(dict.fromkeys(sku for group in self.groups for sku in group))
        self.calls: list[Call] = []
        self.reservations: list[str] = []
        self.number = 0

    # ---------------------------------------------------------------- sending

    def new_key(self) -> str:
        self.number += 1
        return f"k{self.number}"

    def send(self, call: Call, sending: str) -> Answer:
        """Sends a request, perhaps twice, and compares every answer."""
        shop, sends = self.shop, 1 if sending == "once" else 2
        known = shop.model.reservations.get(call.reservation)
        if call.reservation and not known:
            # Whether a key or the reservation is looked for first is nobody's business.
            call = replace(call, key=None)
        was = known.state if known else ""
        is_apart = known is not None and (known.parts is not None or shop.model.is_apart(call))
        if is_apart and sending == "together":
            # Whether the parts have followed the first when the second is decided is up to the machine.
            sending = "again"
        if sending == "together":
            found = type(self).run(send_together(shop, [call] * sends))
            expected = [shop.model.apply(call) for _ in range(sends)]
            assert found == expected, call
        else:
            for _ in range(sends):
                answer = type(self).run(shop.send(call))
                expected = [shop.model.apply(call)]
                assert [answer] == expected, call
        for answer in expected:
            self.note(call, answer, was)
        if call.key is not None:
            self.calls = [*self.calls[-KEPT_CALLS:], call]
        touched = call.key if call.verb == "reserve" else call.reservation
        if touched:
            type(self).run(shop.compare_reservation(touched))
        return expected[0]

    def note(self, call: Call, answer: Answer, was: str) -> None:
        """Counts what happened, so that the test can tell whether it tried enough."""
        basket = self.shop.model.reservations.get(call.reservation)
        is_apart = basket is not None and basket.parts is not None
        changes = call.verb in {"move", "replace"} and self.shop.model.is_apart(call)
        if isinstance(answer, Refusal):
            self.seen[answer.word] += 1
            self.seen[f"over partitions: {answer.word}"] += is_apart or self.shop.model.is_apart(call)
            self.seen[f"other lines over partitions: {answer.word}"] += changes
        elif answer.replayed:
            self.seen["replayed"] += 1
        elif isinstance(answer, Booked):
            self.seen["uncovered"] += bool(answer.uncovered)
            self.seen["below zero"] += answer.on_hand < 0
            self.seen[call.verb] += 1
            self.seen[f"{call.verb}: {answer.ignored}"] += 1
            self.seen["uncovered by a condition"] += bool(answer.uncovered) and call.verb == "condition"
        elif isinstance(answer, Told):
            self.seen[f"{call.verb}: {answer.state}"] += 1
            self.seen[f"other lines over partitions: {call.verb}"] += changes
            self.seen["retaken"] += was == "expired"
            self.seen["over partitions"] += self.shop.model.is_apart(call)
            self.seen["part of a basket over partitions"] += is_apart and bool(call.lines)

    def pick(self, pick: int) -> str:
        """One of the reservations; three times in four one that still lives, if any does."""
        known = self.shop.model.reservations
        alive = {"held", "committed", "expired"}
        living = [name for name in self.reservations if name in known and known[name].state in alive]
        some = self.reservations if pick % 4 == 0 or not living else living
        return some[-1 - pick // 4 % len(some)]

    def part_of(self, name: str, parts: list[int]) -> Lines | None:
        """Some lines of a reservation; None stands for all."""
        known = self.shop.model.reservations.get(name)
        if known is None:
            return None
        chosen = tuple(
            (sku, units, location)
            for (sku, location), units in zip(known.shares, parts, strict=False)
            if units
        )
        return chosen or None

    # ---------------------------------------------------------------- facts

    @initialize(units=st.lists(st.sampled_from((0, 1, 5, 10, 20, 40)), min_size=6, max_size=6))
    def stock_up(self, units: list[int]) -> None:
        type(self).run(open_channel(self.shop))
        places = [(sku, place) for sku in self.skus for place in PLACES]
        for (sku, place), quantity in zip(places, units, strict=False):
            if quantity:
                self.send(Call("receive", self.new_key(), ((sku, quantity, place),)), "once")

    @rule(
        verb=st.sampled_from(("receive", "sale", "sale", "adjust")),
        pick=picks,
        place=st.sampled_from(PLACES),
        quantity=st.integers(1, 8),
        sign=st.sampled_from((1, -1)),
        sending=sendings,
    )
    def move_goods(self, verb: Verb, pick: int, place: str, quantity: int, sign: int, sending: str) -> None:
        sku = self.skus[pick % len(self.skus)]
        units = quantity * sign if verb == "adjust" else quantity
        self.send(Call(verb, self.new_key(), ((sku, units, place),)), sending)

    @rule(
        verb=st.sampled_from(("receive", "sale", "return", "adjust", "condition")),
        pick=picks,
        place=st.sampled_from(PLACES),
        quantity=st.integers(1, 8),
        age_ms=ages,
        conditions=st.sampled_from((("", "damaged"), ("damaged", ""), ("damaged", "display"))),
        sending=sendings,
    )
    def tell_late(
        self,
        verb: Verb,
        pick: int,
        place: str,
        quantity: int,
        age_ms: int,
        conditions: tuple[str, str],
        sending: str,
    ) -> None:
        """Movements of any age, in any condition."""
        lines = ((self.skus[pick % len(self.skus)], quantity, place),)
        occurred_ms = self.shop.model.now_ms - age_ms if age_ms else None
        condition, to_condition = conditions
        call = Call(verb, self.new_key(), lines, occurred_ms=occurred_ms, condition=condition)
        self.send(replace(call, to_condition=to_condition) if verb == "condition" else call, sending)

    @rule(
        pick=picks,
        place=st.sampled_from(PLACES),
        quantity=st.integers(0, 30),
        age_ms=ages,
        now=st.sampled_from((False, False, False, True)),
        sending=sendings,
    )
    def count(self, pick: int, place: str, quantity: int, age_ms: int, now: bool, sending: str) -> None:
        """Counts of any age, and sets."""
        lines = ((self.skus[pick % len(self.skus)], quantity, place),)
        call = Call("count", self.new_key(), lines, occurred_ms=self.shop.model.now_ms - age_ms)
        self.send(replace(call, verb="set", occurred_ms=None) if now else call, sending)

    @precondition(lambda self: self.shop.model.positions)
    @rule(
        pick=picks,
        place=st.sampled_from(PLACES),
        numbers=st.none() | st.tuples(st.integers(0, 2), st.sampled_from((0, 0, 4)), st.integers(0, 3)),
    )
    def change_policy(self, pick: int, place: str, numbers: tuple[int, int, int] | None) -> None:
        told = type(self).run(change_policy(self.shop, (self.skus[pick % len(self.skus)], place), numbers))
        self.seen[f"policy: {told}"] += 1

    @rule(pick=picks, place=st.sampled_from(PLACES), quantity=st.none() | st.integers(0, 2))
    def change_fence(self, pick: int, place: str, quantity: int | None) -> None:
        told = type(self).run(change_fence(self.shop, (self.skus[pick % len(self.skus)], place), quantity))
        self.seen[f"fence: {told}"] += 1

    @rule(pick=picks, place=st.sampled_from(PLACES), units=st.integers(0, 9))
    def expect_goods(self, pick: int, place: str, units: int) -> None:
        """What is expected makes nothing available, whatever is promised meanwhile."""
        sku, self.number = self.skus[pick % len(self.skus)], self.number + 1
        source, operation = b"source%06d" % (pick % 3), b"supply%06d" % self.number
        supply = Supply(source, units, self.shop.model.now_ms, SupplyKind.PURCHASE)
        type(self).run(self.shop.inventory.set_supply(operation, supply, sku=sku, location=place))
        expect(self.shop.model, (sku, place), source, units)
        self.seen["expected"] += 1

    # ---------------------------------------------------------------- promises

    @rule(
        group=st.sampled_from((0, 0, 1, 2, 2)),
        lines=st.lists(st.tuples(picks, quantities, st.sampled_from(PLACES)), min_size=1, max_size=4),
        ttl=ttls,
        sending=sendings,
    )
    def reserve(self, group: int, lines: list[tuple[int, int, str]], ttl: int, sending: str) -> None:
        skus = (*self.groups, self.skus)[group]
        basket = tuple((skus[pick % len(skus)], units, place) for pick, units, place in lines)
        key = self.new_key()
        call = Call("reserve", key, basket, ttl_seconds=ttl, reference=f"cart {key}")
        if self.shop.model.is_apart(call) and sending == "together":
            # Two that seek the same basket help one another; the model knows but one after the other.
            sending = "again"
        answer = self.send(call, sending)
        if isinstance(answer, Told):
            self.reservations.append(key)

    @rule(place=places, ttl=ttls, sending=sendings)
    def reserve_one_of_each(self, place: str, ttl: int, sending: str) -> None:
        """A basket over all partitions there are."""
        self.reserve(2, [(number, 1, place) for number in range(len(self.skus))], ttl, sending)

    @precondition(lambda self: self.reservations)
    @rule(
        pick=picks,
        parts=st.lists(st.integers(0, 4), max_size=3),
        keep=coins,
        fulfil=coins,
        retake=coins,
        keyed=coins,
        named=coins,
        sending=sendings,
    )
    def commit(
        self,
        pick: int,
        parts: list[int],
        keep: bool,
        fulfil: bool,
        retake: bool,
        keyed: bool,
        named: bool,
        sending: str,
    ) -> None:
        name = self.pick(pick)
        self.send(
            Call(
                "commit",
                self.new_key() if keyed else None,
                self.part_of(name, parts),
                name,
                keep=keep,
                fulfil=fulfil,
                retake=retake,
                reference=f"order {self.number}" if named else None,
            ),
            sending,
        )

    @precondition(lambda self: self.reservations)
    @rule(pick=picks, sending=sendings)
    def commit_all(self, pick: int, sending: str) -> None:
        self.send(Call("commit", None, None, self.pick(pick)), sending)

    @precondition(lambda self: self.reservations)
    @rule(
        verb=st.sampled_from(("release", "fulfil", "cancel", "cancel")),
        pick=picks,
        parts=st.lists(st.integers(0, 4), max_size=3),
        keyed=coins,
        sending=sendings,
    )
    def resolve(self, verb: Verb, pick: int, parts: list[int], keyed: bool, sending: str) -> None:
        name = self.pick(pick)
        key = self.new_key() if keyed else None
        self.send(Call(verb, key, self.part_of(name, parts), name), sending)

    @precondition(lambda self: self.reservations)
    @rule(pick=picks, parts=st.lists(st.integers(0, 4), max_size=3), where=places, sending=sendings)
    def move_elsewhere(self, pick: int, parts: list[int], where: str, sending: str) -> None:
        name = self.pick(pick)
        lines = tuple(line for line in self.part_of(name, parts) or () if line[2] != where)
        if lines:
            self.send(Call("move", self.new_key(), lines, name, target=where), sending)

    @precondition(lambda self: self.reservations)
    @rule(
        pick=picks,
        lines=st.lists(st.tuples(picks, quantities, places), min_size=1, max_size=3),
        keyed=coins,
        sending=sendings,
    )
    def replace_lines(self, pick: int, lines: list[tuple[int, int, str]], keyed: bool, sending: str) -> None:
        wanted = tuple((self.skus[at % len(self.skus)], units, place) for at, units, place in lines)
        key = self.new_key() if keyed else None
        self.send(Call("replace", key, wanted, self.pick(pick)), sending)

    @precondition(lambda self: self.reservations)
    @rule(pick=picks, ttl=ttls, keyed=coins, sending=sendings)
    def extend(self, pick: int, ttl: int, keyed: bool, sending: str) -> None:
        key = self.new_key() if keyed else None
        self.send(Call("extend", key, None, self.pick(pick), ttl_seconds=ttl), sending)

    @precondition(lambda self: self.reservations)
    @rule(pick=picks, some=st.lists(ttls, min_size=2, max_size=4))
    def extend_in_one_batch(self, pick: int, some: list[int]) -> None:
        name = self.pick(pick)
        calls = [Call("extend", None, None, name, ttl_seconds=ttl) for ttl in some]
        found = type(self).run(send_together(self.shop, calls))
        assert found == [self.shop.model.apply(call) for call in calls]

    # ---------------------------------------------------------------- duplicates and mistakes

    @precondition(lambda self: self.calls)
    @rule(pick=picks)
    def send_an_old_one_again(self, pick: int) -> None:
        self.send(self.calls[-1 - pick % len(self.calls)], "once")

    @precondition(lambda self: self.reservations)
    @rule(pick=picks, whom=picks, verb=st.sampled_from(("commit", "release", "extend", "fulfil", "cancel")))
    def use_a_key_for_something_else(self, pick: int, whom: int, verb: Verb) -> None:
        name = self.pick(whom)
        model = self.shop.model
        if name not in model.reservations:
            return
        home = model.reservations[name].partition
        used = [call for call in self.calls if self.is_known_in(call, home)]
        if not used:
            return
        key = used[pick % len(used)].key
        call = Call(verb, key, None, name)
        self.send(replace(call, ttl_seconds=17) if verb == "extend" else call, "once")

    @precondition(lambda self: self.calls)
    @rule(pick=picks, quantity=st.integers(1, 3))
    def reserve_under_a_used_key(self, pick: int, quantity: int) -> None:
        call, sku = self.calls[pick % len(self.calls)], self.skus[pick % len(self.skus)]
        if not self.is_known_in(call, self.shop.model.partition(sku)):
            return
        again = replace(call, lines=((sku, quantity, PLACES[0]),))
        if call.verb not in FACTS:
            more = tuple((other, 1, PLACES[0]) for other in self.skus if pick % 3 == 0 and other != sku)
            again = Call("reserve", call.key, ((sku, quantity, PLACES[0]), *more), ttl_seconds=29)
        answer = self.send(again, "once")
        if isinstance(answer, Told) and call.key not in self.reservations:
            assert call.key is not None
            self.reservations.append(call.key)

    def is_known_in(self, call: Call, partition: int) -> bool:
        """Whether a partition would know the key of an earlier request, if that took effect: it was decided
        there, or the key's keeper has not forgotten it.
        """
        model, of_movement = self.shop.model, call.verb in FACTS
        assert call.key is not None
        home = self.home_of(call)
        return home == partition or (home is not None and model.is_kept(call.key, of_movement=of_movement))

    def home_of(self, call: Call) -> int | None:
        """The partition that a request was decided in."""
        model = self.shop.model
        if call.verb in {"reserve", *FACTS}:
            assert call.lines
            return model.partition(call.lines[0][0])
        reservation = model.reservations.get(call.reservation)
        return None if reservation is None else reservation.partition

    # ---------------------------------------------------------------- time and reading

    @rule(seconds=st.sampled_from((0.5, 0.5, 0.5, 1, 1, 2, 5, 6, RETENTION_SECONDS + 1)))
    def wait(self, seconds: float) -> None:
        self.shop.wait(seconds)

    @rule()
    def sweep(self) -> None:
        expected = self.shop.model.sweep(range(self.shop.partitions))
        assert type(self).run(self.shop.inventory.sweep()) == expected
        self.seen["expired by a sweep"] += expected

    @rule(pick=picks)
    def read(self, pick: int) -> None:
        type(self).run(self.shop.compare_availability(self.skus[pick % len(self.skus)]))

    @invariant()
    def books_are_equal(self) -> None:
        self.shop.compare_books(self.skus)

    def teardown(self) -> None:
        shop, run = self.shop, type(self).run
        try:
            for name in self.reservations:
                run(shop.compare_reservation(name))
            shop.wait(60)
            self.sweep()
            self.books_are_equal()
            # Nobody is forgotten: after the last deadline no unit is held any more.
            assert all(position.held == 0 for position in shop.read_books(self.skus).positions.values())
            for name in self.reservations:
                run(shop.compare_reservation(name))
            shop.compare_ledgers()
        finally:
            run(shop.inventory.close())


def machine_on(
    server: Server, control: Control, partitions: int, runner: asyncio.Runner
) -> type[ShopMachine]:
    """The machine for a server and a number of partitions."""

    class Machine(ShopMachine):
        open_one = staticmethod(lambda: runner.run(open_shop(server.url, control, partitions)))
        run = staticmethod(runner.run)
        seen: ClassVar = Counter[str]()

    return Machine


@pytest.mark.timeout(600)
def test_engine_and_model_agree(
    server: Server, control: Control, partitions: int, runner: asyncio.Runner
) -> None:
    """Every answer, every counter and every reservation is what the documents say, whatever happens
    before it; a failure comes back as the shortest story that shows it.
    """
    machine = machine_on(server, control, partitions, runner)
    run_state_machine_as_test(machine)
    assert machine.seen["replayed"]
    assert machine.seen["insufficient_stock"]
    assert machine.seen["expired by a sweep"]
    assert bool(machine.seen["over partitions"]) == (partitions > 1)


WANTED = (
    "replayed",
    "idempotency_mismatch",
    "insufficient_stock",
    "exceeds_open_quantity",
    "reservation_not_found",
    "reservation_expired",
    "already_committed",
    "already_released",
    "already_fulfilled",
    "already_cancelled",
    "not_committed",
    "uncovered",
    "uncovered by a condition",
    "return",
    "condition",
    "sale: counted_since",
    "count: None",
    "count: counted_since",
    "count: too_old",
    "set",
    "below zero",
    "expired by a sweep",
    "retaken",
    "commit: held",
    "commit: committed",
    "commit: fulfilled",
    "release: held",
    "release: released",
    "extend: held",
    "fulfil: fulfilled",
    "cancel: cancelled",
    "policy: saved",
    "policy: policy_not_found",
    "fence: saved",
    "fence: fence_not_found",
    "move: held",
    "move: committed",
    "replace: held",
)
WANTED_OVER_PARTITIONS = (
    "over partitions",
    "over partitions: idempotency_mismatch",
    "over partitions: insufficient_stock",
    "over partitions: not_stocked",
    "over partitions: exceeds_open_quantity",
    "over partitions: reservation_expired",
    "part of a basket over partitions",
    "other lines over partitions: move",
    "other lines over partitions: replace",
    "other lines over partitions: insufficient_stock",
)


def take_a_step(machine: ShopMachine, random: Random) -> None:  # noqa: C901, PLR0912 - one branch a step
    """One thing that happens in a busy shop."""
    pick, whom, place = random.randrange(10**6), random.randrange(10**6), random.choice(PLACES)
    sending = random.choices(("once", "together", "again"), (6, 1, 1))[0]
    parts = [random.randrange(4) for _ in range(random.choice((0, 0, 2, 3)))]
    coin = [random.random() < chance for chance in (0.5, 0.3, 0.6, 0.5, 0.2)]
    step = random.choices(
        (
            *("move", "policy", "expect", "reserve", "commit", "resolve", "extend"),
            *("batch", "old", "key", "wait", "read", "late", "count", "elsewhere", "lines"),
        ),
        (3, 1, 1, 8, 6, 6, 2, 1, 2, 2, 2, 2, 2, 1, 3, 3),
    )[0]
    age_ms = random.choice((0, 1, 500, 1000, 5000, 7_200_000, 2 * 10**9, 90 * 10**8, -1000))
    if step == "move" or not machine.reservations:
        verb: Verb = random.choice(("receive", "receive", "sale", "adjust"))
        machine.move_goods(verb, pick, place, random.randint(1, 8), random.choice((1, -1)), sending)
    if step == "policy":
        numbers = (random.randrange(3), random.randrange(3), random.randrange(3))
        machine.change_policy(pick, place, numbers if coin[0] else None)
        machine.change_fence(whom, place, random.randrange(3) if coin[1] else None)
    elif step == "expect":
        machine.expect_goods(pick, place, random.randrange(9))
    elif step == "reserve" or not machine.reservations:
        lines = [
            (random.randrange(9), random.randint(1, 4), random.choice(PLACES))
            for _ in range(random.randint(1, 3))
        ]
        machine.reserve(random.choice((0, 0, 1, 2, 2)), lines, random.choice((1, 5, 30)), sending)
    elif step == "commit":
        machine.commit(pick, parts, *coin, sending)
    elif step == "resolve":
        machine.resolve(random.choice(("release", "fulfil", "cancel")), pick, parts, coin[3], sending)
    elif step == "elsewhere":
        machine.move_elsewhere(pick, parts, place, sending)
    elif step == "lines":
        lines = [(random.randrange(9), random.randint(1, 3), random.choice(PLACES)) for _ in range(2)]
        machine.replace_lines(pick, lines, coin[3], sending)
    elif step == "extend":
        machine.extend(pick, random.choice((1, 2, 30)), coin[3], sending)
    elif step == "batch":
        machine.extend_in_one_batch(pick, [random.choice((1, 2, 5)) for _ in range(3)])
    elif step == "old":
        machine.send_an_old_one_again(pick)
    elif step == "key":
        machine.use_a_key_for_something_else(
            pick, whom, random.choice(("commit", "release", "extend", "fulfil", "cancel"))
        )
        machine.reserve_under_a_used_key(pick, random.randint(1, 3))
    elif step == "wait":
        long = RETENTION_SECONDS + 1
        machine.wait(random.choices((0.5, 1, 5, long), (4, 4, 2, 0.5))[0])
        if coin[0]:
            machine.sweep()
    elif step == "read":
        machine.read(pick)
    elif step == "late":
        kind: Verb = random.choice(("receive", "sale", "return", "adjust", "condition"))
        conditions = random.choice((("", "damaged"), ("damaged", ""), ("damaged", "display")))
        machine.tell_late(kind, pick, place, random.randint(1, 8), age_ms, conditions, sending)
    elif step == "count":
        machine.count(pick, place, random.randint(0, 30), age_ms, coin[4], sending)


def live_a_day(day: ShopMachine, random: Random, steps: int) -> None:
    """Takes steps, comparing all books after each."""
    try:
        day.stock_up([random.choice((0, 5, 10, 20)) for _ in range(6)])
        for _ in range(steps):
            take_a_step(day, random)
            day.books_are_equal()
    except BaseException:
        type(day).run(day.shop.inventory.close())
        raise
    day.teardown()


@pytest.mark.every_topology
def test_a_morning_on_every_topology(
    server: Server, control: Control, partitions: int, runner: asyncio.Runner
) -> None:
    """Engine and model agree wherever the partitions lie."""
    machine = machine_on(server, control, partitions, runner)
    live_a_day(machine(), Random(7), 300)
    for word in ("replayed", "insufficient_stock", "expired by a sweep"):
        assert machine.seen[word], machine.seen
    assert bool(machine.seen["over partitions"]) == (partitions > 1)


def test_a_long_busy_day(server: Server, control: Control, partitions: int, runner: asyncio.Runner) -> None:
    """Engine and model still agree after a day on which every kind of refusal, replay, expiry and broken
    promise did happen.
    """
    machine = machine_on(server, control, partitions, runner)
    factor = int(os.environ.get("BINCARD_TEST_DAYS", "1"))
    for seed in range(5 * factor):
        live_a_day(machine(), Random(seed), 700)
    wanted = WANTED if partitions == 1 else WANTED + WANTED_OVER_PARTITIONS
    missing = [word for word in wanted if not machine.seen[word]]
    assert not missing, f"the day was too quiet; it saw {machine.seen}"
