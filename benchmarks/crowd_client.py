"""One process of the crowd: its clients use every verb on the same few positions, a fifth of it all twice.

Run as a program it reads what to do from its arguments and prints what it was told as JSON.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import Any

import msgspec
from msgspec import Struct, field

from engine import (
    BincardError,
    Buffer,
    Channel,
    Component,
    Count,
    Inventory,
    Item,
    Line,
    Location,
    LocationKind,
    Movement,
    MovementKind,
    MovementResult,
    OutcomeError,
    Policy,
    Pool,
    Reservation,
    State,
    Unavailable,
    Unconfirmed,
    connect,
)
from engine.keys import partition_of
from engine.sourcing_plan import Rules, Strategy, Wanted
from engine.types import Capability, Goods, Inbound, Move, Transfer
from engine.workers import Sweeper

PLACES = ("w0", "w1", "w2", "w3", "w4")
SKUS = tuple(f"hot-{number}" for number in range(8))
PLAIN = ("plain-0", "plain-1")
"""Only reserve, what follows it and plain facts touch these, so that the checker counts them to the unit."""

KIT = "set"
PARTS = (Component(SKUS[0], 1), Component(SKUS[1], 2))
POOLS = {"north": PLACES[:3], "south": PLACES[2:], "all": PLACES}
CHANNELS = ("web", "shop", "market")
FIRST_UNITS = 25
MOST_BACKORDERS = 3
SENT_TWICE = 0.2
SECOND = 1_000_000_000
SHARED = 4000
"""Reservations that a process remembers, for others to act on."""

Ask = Callable[[], Awaitable[Any]]


class Task(Struct, frozen=True):
    """What one process shall do."""

    url: str
    process: int
    partitions: int
    clients: int
    seconds: float
    seed: int


class Told(Struct):
    """What the clients of a process were told."""

    verbs: dict[str, dict[str, int]] = field(default_factory=dict)
    """How often each verb ended in each way."""
    effects: dict[str, int] = field(default_factory=dict)
    """By how much facts changed on_hand, by position."""
    uncovered: set[str] = field(default_factory=set)
    """Positions at which a fact broke a promise."""
    reservations: set[str] = field(default_factory=set)
    twice: int = 0
    faults: list[str] = field(default_factory=list)
    """What must never be: two answers to one request, an exception that is none of the engine's."""


def place_name(sku: str, location: str) -> str:
    return f"{sku}@{location}"


async def open_shop(inventory: Inventory) -> None:
    """Places, pools, channels, a kit, and some units of each SKU everywhere."""
    for number, place in enumerate(PLACES):
        await inventory.save_location(
            Location(
                place,
                LocationKind.STORE,
                lat=50.0 + number / 10,
                lon=8.0,
                priority=number % 2,
                capabilities=(Capability.PICKUP, Capability.SHIP) if number % 2 else (Capability.SHIP,),
            )
        )
    for pool, places in POOLS.items():
        await inventory.save_pool(Pool(pool, places))
    await inventory.save_channel(Channel("web", ("north", "south"), Buffer(units=1)))
    await inventory.save_channel(Channel("shop", ("all",)))
    await inventory.save_channel(Channel("market", ("south",), Buffer(percent=20)))
    await inventory.save_item(Item(KIT, components=PARTS))
    for sku in (*SKUS, *PLAIN):
        for place in PLACES:
            await inventory.record(
                Movement(f"in {sku} {place}", MovementKind.RECEIVE, sku, place, FIRST_UNITS)
            )


class Crowd:
    """The clients of one process, and what they know together."""

    def __init__(self, inventory: Inventory, task: Task) -> None:
        self.inventory, self.task, self.told = inventory, task, Told()
        self.ends = time.monotonic() + task.seconds
        self.shared: list[str] = []
        self.transfers: list[str] = []
        self.inbounds: list[str] = []

    async def run(self) -> Told:
        sweeping = asyncio.ensure_future(self._sweep())
        clients = [Client(self, number) for number in range(self.task.clients)]
        results = await asyncio.gather(*(client.go() for client in clients), return_exceptions=True)
        sweeping.cancel()
        await asyncio.gather(sweeping, return_exceptions=True)
        self.told.faults += [repr(fault) for fault in results if isinstance(fault, BaseException)]
        return self.told

    async def _sweep(self) -> None:
        sweeper = Sweeper(self.inventory)
        while True:
            try:
                await asyncio.sleep(min(0.2, await sweeper.tick()))
            except BincardError:
                await asyncio.sleep(0.1)

    def remember(self, reservation: Reservation) -> None:
        self.told.reservations.add(reservation.id)
        if len(self.shared) < SHARED:
            self.shared.append(reservation.id)

    def count(self, verb: str, outcome: str) -> None:
        outcomes = self.told.verbs.setdefault(verb, {})
        outcomes[outcome] = outcomes.get(outcome, 0) + 1


class Client:
    """One who uses everything, again and again, until the time is up."""

    def __init__(self, crowd: Crowd, number: int) -> None:
        self.crowd, self.it = crowd, crowd.inventory
        self.name = f"{crowd.task.process}.{number}"
        self.chance = Random(f"{crowd.task.seed} {self.name}")
        self.steps = 0

    async def go(self) -> None:
        # Everybody comes at once, but not within one moment.
        await asyncio.sleep(self.chance.random() * min(1.0, self.crowd.task.seconds / 4))
        kinds = (
            (self._buy, 8),
            (self._source, 10),
            (self._meddle, 4),
            (self._tell, 6),
            (self._count, 3),
            (self._regulate, 2),
            (self._ship, 2),
            (self._expect, 2),
            (self._look, 8),
            (self._list, 1),
        )
        steps, weights = zip(*kinds, strict=True)
        while time.monotonic() < self.crowd.ends:
            await self.chance.choices(steps, weights)[0]()

    def key(self) -> str:
        self.steps += 1
        return f"{self.name}.{self.steps}"

    def maybe(self, share: float) -> bool:
        return self.chance.random() < share

    def sku(self) -> str:
        return self.chance.choice(SKUS)

    def place(self) -> str:
        return self.chance.choice(PLACES)

    # ---------------------------------------------------------------- asking

    async def ask(self, verb: str, call: Ask, *, once: bool = False) -> Any:  # noqa: ANN401 - as the verb
        """What a verb answers, None where it is refused. A fifth is sent twice, at once or one by one."""
        chance = self.chance.random()
        if once or chance >= SENT_TWICE:
            return await self._insist(verb, call)
        self.crowd.told.twice += 1
        if chance < SENT_TWICE / 2:
            answers = list(await asyncio.gather(self._insist(verb, call), self._insist(verb, call)))
        else:
            answers = [await self._insist(verb, call), await self._insist(verb, call)]
        ids = {answer.id for answer in answers if isinstance(answer, Reservation | Transfer | Inbound)}
        firsts = [
            answer for answer in answers if answer is not None and not getattr(answer, "replayed", True)
        ]
        if len(ids) > 1 or (len(firsts) > 1 and isinstance(firsts[0], MovementResult)):
            self.crowd.told.faults.append(f"{verb}: two answers to one request: {answers}")
        return firsts[0] if firsts else answers[0] or answers[1]

    async def _insist(self, verb: str, call: Ask) -> Any:  # noqa: ANN401 - as the verb
        while True:
            try:
                answer = await call()
            except (Unavailable, Unconfirmed) as fault:
                self.crowd.count(verb, fault.outcome)
                await asyncio.sleep(self.chance.random() * 0.1)
                continue
            except OutcomeError as refused:
                self.crowd.count(verb, refused.outcome)
                return None
            except BincardError:
                # The lines of a reservation may have gone elsewhere since they were read.
                self.crowd.count(verb, "invalid_request")
                return None
            is_replayed = getattr(answer, "replayed", False)
            self.crowd.count(verb, "replayed" if is_replayed else "done")
            return answer

    def book(self, sku: str, location: str, answer: MovementResult | None) -> None:
        """Adds up what facts did."""
        if answer is not None:
            told, name = self.crowd.told, place_name(sku, location)
            if not answer.replayed:
                told.effects[name] = told.effects.get(name, 0) + answer.effect
            if answer.uncovered:
                told.uncovered.add(name)

    # ---------------------------------------------------------------- reservations

    async def _buy(self) -> None:
        chance, key = self.chance, self.key()
        skus = PLAIN if self.maybe(0.3) else SKUS
        if self.crowd.task.partitions > 1 and self.maybe(0.6):
            # Most baskets lie in one partition: those can be moved and changed.
            home = partition_of(chance.choice(skus), self.crowd.task.partitions)
            skus = tuple(s for s in skus if partition_of(s, self.crowd.task.partitions) == home)
        lines = [
            Line(chance.choice(skus), chance.choice((1, 1, 2, 3)), self.place())
            for _ in range(chance.choice((1, 1, 2, 3)))
        ]
        channel = chance.choice((None, None, "web")) if skus[0] in SKUS else None
        ttl_seconds, owner = chance.choice((1, 2, 60, 60)), f"o{chance.randrange(50)}"
        held = await self.ask(
            "reserve",
            lambda: self.it.reserve(key, lines, ttl_seconds=ttl_seconds, owner=owner, channel=channel),
        )
        if held is not None:
            self.crowd.remember(held)
            await self._resolve(held, key, is_wide=skus[0] in SKUS)

    async def _source(self) -> None:
        chance, key = self.chance, self.key()
        wanted = [
            Wanted(self.sku() if self.maybe(0.8) else KIT, chance.choice((1, 1, 2, 4)))
            for _ in range(chance.choice((1, 1, 1, 2, 3)))
        ]
        rules = self._rules(wanted)
        ttl_seconds = chance.choice((1, 2, 60, 60))
        owner = f"o{chance.randrange(50)}"
        held = await self.ask(
            "source by channel" if rules.channel else "source by pool",
            lambda: self.it.source(key, wanted, rules=rules, ttl_seconds=ttl_seconds, owner=owner),
        )
        if held is not None:
            self.crowd.remember(held)
            await self._resolve(held, key, is_wide=True)

    def _rules(self, wanted: Sequence[Wanted]) -> Rules:
        chance = self.chance
        strategy = chance.choice(list(Strategy))
        has_kit, by_channel = any(line.sku == KIT for line in wanted), self.maybe(0.5)
        return Rules(
            channel=chance.choice(CHANNELS) if by_channel else None,
            pool=None if by_channel else chance.choice([*POOLS]),
            strategy=strategy,
            near=(50.2, 8.0) if strategy is Strategy.NEAREST else None,
            allow_partial=not has_kit and self.maybe(0.2),
            allow_split=self.maybe(0.8),
            capability="pickup" if self.maybe(0.1) else None,
        )

    async def _meddle(self) -> None:
        """Acts on what anybody holds, or on what a list of an owner shows."""
        chance = self.chance
        if self.crowd.shared and self.maybe(0.9):
            reservation = chance.choice(self.crowd.shared)
            found = await self.ask("reservation", lambda: self.it.reservation(reservation), once=True)
        else:
            owner = f"o{chance.randrange(50)}"
            page = await self.ask(
                "reservations", lambda: self.it.reservations(owner=owner, limit=20), once=True
            )
            found = chance.choice(page.items) if page is not None and page.items else None
        if found is not None:
            await self._step(found, self.key(), is_wide=all(line.sku in SKUS for line in found.lines))

    async def _resolve(self, held: Reservation, key: str, *, is_wide: bool) -> None:
        found: Reservation | None = held
        for number in range(self.chance.choice((0, 1, 2, 2, 3))):
            if found is not None:
                found = await self._step(found, f"{key} {number}", is_wide=is_wide)

    async def _step(self, found: Reservation, key: str, *, is_wide: bool) -> Reservation | None:
        """One of the verbs on a reservation that its state allows, now and then one that it does not."""
        chance, it, target = self.chance, self.it, found.id
        has_held = any(line.held for line in found.lines)
        has_committed = any(line.committed for line in found.lines)
        verbs = ["release", "commit", "cancel"] if self.maybe(0.05) else []
        if has_held:
            verbs += [
                "commit",
                "commit",
                "commit part",
                "commit and fulfil",
                "release",
                "extend",
                "release part",
            ]
            verbs += ["move", "move", "replace_lines"] if is_wide else []
        if has_committed:
            verbs += ["fulfil", "fulfil", "fulfil part", "cancel", "cancel part", "return"]
            verbs += ["move", "mark_ready", "report_short"] if is_wide else []
        if not verbs:
            return None
        verb, own = chance.choice(verbs), chance.choice((None, f"{key} own"))
        lines = [line for line in found.lines if line.held or line.committed]
        line = chance.choice(lines or list(found.lines))
        some = [Line(line.sku, 1, line.location)]
        calls: dict[str, Ask] = {
            "commit": lambda: it.commit(target, op_id=own, if_expired="retake"),
            "commit part": lambda: it.commit(target, lines=some, remainder="keep", op_id=f"{key} part"),
            "commit and fulfil": lambda: it.commit(target, fulfil=True, op_id=own),
            "release": lambda: it.release(target, op_id=own),
            "release part": lambda: it.release(target, lines=some, op_id=f"{key} part"),
            "extend": lambda: it.extend(target, 30, op_id=f"{key} on"),
            "fulfil": lambda: it.fulfil(target, op_id=own),
            "fulfil part": lambda: it.fulfil(target, lines=some, op_id=f"{key} part"),
            "cancel": lambda: it.cancel(target, op_id=own),
            "cancel part": lambda: it.cancel(target, lines=some, op_id=f"{key} part"),
            "mark_ready": lambda: it.mark_ready(target, op_id=own),
            "report_short": lambda: it.report_short(target, some, op_id=f"{key} short"),
        }
        if verb == "return":
            movement = Movement(key, MovementKind.RETURN, line.sku, line.location, 1, reservation=target)
            self.book(line.sku, line.location, await self.ask("return", lambda: it.record(movement)))
            return found
        if verb == "move":
            goal = chance.choice([place for place in PLACES if place != line.location])
            moves = [Move(line.sku, line.location, goal, 1)]
            return await self._told("move", lambda: it.move(target, moves, op_id=f"{key} move"))
        if verb == "replace_lines":
            others = [Line(line.sku, chance.choice((1, 2)), self.place()), *some]
            return await self._told(
                "replace_lines", lambda: it.replace_lines(target, others, op_id=f"{key} other")
            )
        return await self._told(verb, calls[verb])

    async def _told(self, verb: str, call: Ask) -> Reservation | None:
        answer = await self.ask(verb, call)
        return answer if isinstance(answer, Reservation) else None

    # ---------------------------------------------------------------- facts, policies, documents

    async def _tell(self) -> None:
        chance, key, place = self.chance, self.key(), self.place()
        is_plain = self.maybe(0.3)
        sku = chance.choice(PLAIN) if is_plain else self.sku()
        kinds = ["receive", "receive", "sale", "adjust", "return"] + ([] if is_plain else ["condition"])
        kind = MovementKind(chance.choice(kinds))
        quantity = chance.randint(1, 3) * (chance.choice((1, -1)) if kind is MovementKind.ADJUST else 1)
        movement = Movement(key, kind, sku, place, quantity)
        if not is_plain and kind is MovementKind.CONDITION:
            names = chance.choice((("sellable", "damaged"), ("damaged", "sellable")))
            movement = msgspec.structs.replace(movement, condition=names[0], to_condition=names[1])
        elif not is_plain and self.maybe(0.4):
            # Told late, of any moment of the last two days.
            age_ms = chance.choice((1, 500, 5000, 60_000, 172_800_000))
            movement = msgspec.structs.replace(movement, occurred_ms=now_ms() - age_ms)
        self.book(sku, place, await self.ask(kind.value, lambda: self.it.record(movement)))

    async def _count(self) -> None:
        chance, key, sku, place = self.chance, self.key(), self.sku(), self.place()
        if self.maybe(0.7):
            age_ms = chance.choice((0, 0, 5, 1000, 20_000, 3_600_000))
            count = Count(key, sku, place, chance.randint(5, 40), now_ms() - age_ms)
            self.book(
                sku,
                place,
                await self.ask("count late" if age_ms else "count now", lambda: self.it.count(count)),
            )
            return
        expected, quantity = None, chance.randint(5, 40)
        if self.maybe(0.5):
            rows = await self.ask("stock", lambda: self.it.stock(sku, locations=(place,)), once=True)
            expected = rows[0].state if rows else None
        self.book(
            sku,
            place,
            await self.ask(
                "set_on_hand" if expected is None else "set_on_hand if unchanged",
                lambda: self.it.set_on_hand(sku, place, quantity, expected=expected, op_id=key),
            ),
        )

    async def _regulate(self) -> None:
        """Policies, fences, and a channel's buffer."""
        chance, sku, place, channel = self.chance, self.sku(), self.place(), self.chance.choice(CHANNELS)
        kind = chance.choices(("policy", "no policy", "fence", "no fence", "buffer"), (7, 3, 6, 3, 1))[0]
        if kind == "policy":
            policy = Policy(sku, place, chance.choice((0, 1, 3)), chance.choice((0, 0, MOST_BACKORDERS)), 2)
            await self.ask("save_policy", lambda: self.it.save_policy(policy))
        elif kind == "no policy":
            await self.ask("delete_policy", lambda: self.it.delete_policy(sku, place))
        elif kind == "fence":
            quantity, spill = chance.randint(0, 4), self.maybe(0.5)
            await self.ask(
                "save_fence", lambda: self.it.save_fence(channel, sku, place, quantity, spill=spill)
            )
        elif kind == "no fence":
            await self.ask("delete_fence", lambda: self.it.delete_fence(channel, sku, place))
        else:
            saved = Channel("web", ("north", "south"), Buffer(units=chance.randint(0, 2)))
            await self.ask("save_channel", lambda: self.it.save_channel(saved), once=True)

    async def _ship(self) -> None:
        chance, key = self.chance, self.key()
        known = self.crowd.transfers
        if not known or self.maybe(0.3):
            source, target = chance.sample(PLACES, 2)
            goods = [Goods(sku, chance.randint(1, 3)) for sku in chance.sample(SKUS, chance.randint(1, 2))]
            made = await self.ask(
                "create_transfer",
                lambda: self.it.create_transfer(key, source=source, target=target, lines=goods),
            )
            if made is not None:
                known.append(made.id)
                await self._take_transfer("ship_transfer", lambda: self.it.ship_transfer(made.id))
            return
        transfer = chance.choice(known)
        found = await self.ask("transfer", lambda: self.it.transfer(transfer), once=True)
        if found is None:
            return
        kind, some = chance.choices(("part", "all", "cancel"), (6, 3, 1))[0], [Goods(found.lines[0].sku, 1)]
        closes = self.maybe(0.3)
        if kind == "part":
            await self._take_transfer(
                "receive_transfer in part", lambda: self.it.receive_transfer(transfer, some, op_id=key)
            )
        elif kind == "all":
            await self._take_transfer(
                "receive_transfer", lambda: self.it.receive_transfer(transfer, close=closes, op_id=key)
            )
        else:
            await self._take_transfer("cancel_transfer", lambda: self.it.cancel_transfer(transfer))

    async def _take_transfer(self, verb: str, call: Ask) -> None:
        told = await self.ask(verb, call)
        if told is not None:
            self.crowd.told.uncovered |= {place_name(one.sku, told.source) for one in told.uncovered}

    async def _expect(self) -> None:
        chance, key, sku, place = self.chance, self.key(), self.sku(), self.place()
        known = self.crowd.inbounds
        if not known or self.maybe(0.3):
            when_ms = now_ms() + chance.randint(1, 5) * 86_400_000
            made = await self.ask(
                "expect",
                lambda: self.it.expect(key, sku=sku, location=place, quantity=5, expected_ms=when_ms),
            )
            if made is not None:
                known.append(made.id)
            return
        inbound = chance.choice(known)
        if self.maybe(0.8):
            quantity, closes = chance.randint(1, 3), self.maybe(0.2)
            await self.ask(
                "receive_inbound", lambda: self.it.receive_inbound(key, inbound, quantity, close=closes)
            )
        else:
            await self.ask("cancel_inbound", lambda: self.it.cancel_inbound(inbound))

    # ---------------------------------------------------------------- reading

    async def _look(self) -> None:
        chance, it, place = self.chance, self.it, self.place()
        sku = chance.choice((*SKUS, *PLAIN))
        wanted = [Wanted(self.sku(), 2), Wanted(KIT, 1)][: chance.choice((1, 2))]
        rules, owner, channel = self._rules(wanted), f"o{chance.randrange(50)}", chance.choice(CHANNELS)
        pool = chance.choice([*POOLS])
        reads: dict[str, Ask] = {
            "availability": lambda: it.availability(sku),
            "availability to an owner": lambda: it.availability(sku, owner=owner),
            "availability of many": lambda: it.availability_of((*SKUS[:3], *PLAIN)),
            "availability by channel": lambda: it.availability_by(
                sku, rules=Rules(channel=channel), quantity=2
            ),
            "availability by pool": lambda: it.availability_by(sku, rules=Rules(pool=pool)),
            "availability of a kit": lambda: it.availability_by(KIT, rules=Rules(pool=pool)),
            "stock": lambda: it.stock(sku),
            "plan": lambda: it.plan(wanted, rules=rules),
            "alternatives": lambda: it.alternatives(sku, place),
            "atp": lambda: it.atp(sku, days=3),
            "nearby": lambda: it.nearby(sku, 50.1, 8.0, radius_km=30.0),
        }
        read = chance.choice([*reads, "availability", "stock"])
        await self.ask(read, reads[read], once=True)

    async def _list(self) -> None:
        chance, it, sku, place = self.chance, self.it, self.sku(), self.place()
        lists: dict[str, Ask] = {
            "pickups": lambda: it.pickups(place, limit=20),
            "counts_wanted": lambda: it.counts_wanted(location=place),
            "reservations": lambda: it.reservations(sku=sku, state=State.HELD, limit=20),
            "fences": lambda: it.fences(sku=sku),
            "policies": lambda: it.policies(sku),
            "history": lambda: it.history(sku, place, limit=20),
            "inbounds": lambda: it.inbounds(sku=sku, location=place),
        }
        if self.maybe(0.05):
            lists = {"transfers": it.transfers}
        one = chance.choice([*lists])
        await self.ask(one, lists[one], once=True)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


async def work(task: Task) -> Told:
    """All clients of one process, from the first to the last."""
    inventory = await connect(task.url, partitions=task.partitions)
    try:
        return await Crowd(inventory, task).run()
    finally:
        await inventory.close()


def main(arguments: Sequence[str]) -> None:
    """Works, and prints what was told."""
    task = msgspec.json.decode(arguments[0], type=Task)
    sys.stdout.buffer.write(msgspec.json.encode(asyncio.run(work(task))))


if __name__ == "__main__":
    main(sys.argv[1:])
