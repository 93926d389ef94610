"""Many who want the last unit: they ask for the same few positions, send a quarter of everything twice,
give up on calls that last, and repeat with the same id whatever got no answer.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from random import Random

from engine import (
    InvalidRequest,
    Inventory,
    Line,
    Location,
    LocationKind,
    Movement,
    MovementKind,
    MovementResult,
    Pool,
    Refused,
    Reservation,
    ReserveRequest,
    State,
    Unavailable,
    Unconfirmed,
)
from engine.keys import partition_of
from engine.sourcing_plan import Rules, Wanted
from engine.types import Move

PLACES = ("s1", "s2")
LAST = ("last-1", "last-2", "last-3")
"""There is one of each, and everybody wants these first."""

FLOATING = "floating"
"""A SKU of its own for holds that may lie anywhere in a pool: what it touches is not counted by histories."""

POOL = "both"
SKUS = 6
MOST_SHELVES = 3
FIRST_UNITS = 4
SENT_TWICE = 0.25
APART = 0.5
"""The share of baskets over several partitions, where there may be some."""

WIDER = 0.12
"""The share of holds in a pool, and what follows them."""

CHANGED = 0.4
"""The share of those baskets over several partitions that get other lines."""

GIVEN_UP = 0.02
SHORT_TTL, LONG_TTL = 1, 60
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.005, 0.08
LAPSE_SECONDS = 10.0
PATIENCE_SECONDS = 30.0
"""How long after the last fault a request may stay without an answer. Then it does not converge."""

Call = Callable[[Inventory], Awaitable[object]]
"""A request with its ids: what it asks of whichever inventory it is sent to."""


class NoConvergenceError(Exception):
    """A request was repeated with its id for so long, and there is still no answer."""


class Crowd:
    """Shoppers on some inventories, from `start` to `finish`."""

    def __init__(
        self,
        inventories: Sequence[Inventory],
        chance: Random,
        *,
        partitions: int,
        shoppers: int,
        crosses: bool = False,
    ) -> None:
        self.inventories, self.chance, self.crosses = inventories, chance, crosses
        self.counts: Counter[str] = Counter()
        self.given_up = GIVEN_UP
        """The share of calls that nobody waits for long enough."""
        self.reservations: dict[str, None] = {}
        self.moved: Counter[tuple[str, str]] = Counter()
        """How many units came and went by movements, by SKU and location."""
        self.abandoned: list[str] = []
        """Of those the first, which nobody resolves: they lapse."""

        self.is_wider = hasattr(inventories[0], "source")
        """Whether these inventories choose places; a client of the API has the plain verbs alone."""

        self.patience_ends = float("inf")
        self.is_over = False
        self.shelves = choose_shelves(partitions)
        self._shoppers = [_Shopper(self, f"c{number}", Random(chance.random())) for number in range(shoppers)]
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def operations(self) -> int:
        """Requests that got an answer."""
        return self.counts["answered"]

    async def stock_up(self) -> None:
        """Two stores with a few units of each SKU."""
        for place in PLACES:
            await self.insist(lambda it, place=place: it.save_location(Location(place, LocationKind.STORE)))
        moves = [
            Movement(f"in {sku} {place}", MovementKind.RECEIVE, sku, place, FIRST_UNITS)
            for shelf in self.shelves
            for sku in shelf
            for place in PLACES
        ]
        moves += [Movement(f"in {sku}", MovementKind.RECEIVE, sku, PLACES[0], 1) for sku in LAST]
        moves += [
            Movement(f"in {FLOATING} {place}", MovementKind.RECEIVE, FLOATING, place, FIRST_UNITS)
            for place in PLACES
        ]
        if self.is_wider:
            await self.insist(lambda it: it.save_pool(Pool(POOL, PLACES)))
        await asyncio.gather(*(self.insist(lambda it, move=move: it.record(move)) for move in moves))
        for move in moves:
            self.moved[move.sku, move.location] += move.quantity

    def start(self) -> None:
        self._tasks = [asyncio.ensure_future(shopper.go()) for shopper in self._shoppers]

    async def until(self, operations: int) -> None:
        """Waits for so many further answers."""
        wanted = self.operations + operations
        while self.operations < wanted:
            self.look()
            await asyncio.sleep(FIRST_PAUSE_SECONDS)

    def look(self) -> None:
        """Raises what a shopper raised."""
        for task in self._tasks:
            if task.done():
                task.result()

    async def finish(self) -> None:
        """Lets everybody get an answer to what they asked. Raises `NoConvergenceError`."""
        self.is_over = True
        await asyncio.gather(*self._tasks)

    async def stop(self) -> None:
        """The end, whatever is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def be_patient(self) -> None:
        """From now on there is no fault: answers must come."""
        self.patience_ends = asyncio.get_running_loop().time() + PATIENCE_SECONDS

    async def until_lapsed(self) -> None:
        """Waits until the first holds are given back; a server whose clock was set may take its time."""
        ends = asyncio.get_running_loop().time() + LAPSE_SECONDS
        for reservation in self.abandoned[:1]:
            while asyncio.get_running_loop().time() < ends:
                found = await self.insist(lambda it, held=reservation: it.reservation(held))
                if not isinstance(found, Reservation) or found.state != State.HELD:
                    return
                await asyncio.sleep(LONGEST_PAUSE_SECONDS)

    async def read_back(self) -> Counter[str]:
        """Reads what became of every reservation that somebody was told of, and every count."""
        states: Counter[str] = Counter()

        async def read(reservation: str) -> None:
            found = await self.insist(lambda it: it.reservation(reservation))
            states[found.state if isinstance(found, Reservation) else "not found"] += 1

        await asyncio.gather(*map(read, tuple(self.reservations)))
        skus = [sku for shelf in self.shelves for sku in shelf]
        await asyncio.gather(
            *(self.insist(lambda it, sku=sku: it.stock(sku)) for sku in skus),
            *(self.insist(lambda it, sku=sku: it.availability(sku)) for sku in skus),
        )
        return states

    async def insist(self, call: Call, chance: Random | None = None) -> object:
        """Repeats a call with its ids until there is an answer: what it returns, or its refusal."""
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                if chance is not None and self.given_up and chance.random() < self.given_up:
                    async with asyncio.timeout(chance.random() * 0.004):
                        answer = await call(self.chance.choice(self.inventories))
                else:
                    answer = await call(self.chance.choice(self.inventories))
            except TimeoutError:
                self.counts["given up"] += 1
                continue
            except (Unavailable, Unconfirmed) as fault:
                self.counts[fault.outcome] += 1
            except Refused as refused:
                self.counts["answered"] += 1
                self.counts[refused.outcome] += 1
                return refused
            except InvalidRequest as refused:
                # A floating hold was bound anew since its caller saw it, and has no such line.
                self.counts["answered"] += 1
                self.counts["lines that went elsewhere"] += 1
                return refused
            else:
                self.counts["answered"] += 1
                if isinstance(answer, Reservation):
                    # Also the answer to a second sending, which may hold what the first was refused.
                    self.reservations[answer.id] = None
                return answer
            if asyncio.get_running_loop().time() > self.patience_ends:
                raise NoConvergenceError(f"no answer within {PATIENCE_SECONDS:.0f} s after the last fault")
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)


class _Shopper:
    """One who shops until the crowd is over."""

    def __init__(self, crowd: Crowd, name: str, chance: Random) -> None:
        self.crowd, self.name, self.chance = crowd, name, chance

    async def go(self) -> None:
        number = 0
        for sku in LAST:
            await self._want(sku)
        while not self.crowd.is_over:
            number += 1
            key = f"{self.name} {number}"
            kind = self.chance.random()
            if self.crowd.is_wider and self.chance.random() < WIDER:
                await self._float(key)
            elif kind < 0.62:
                await self._shop(key, abandons=number == 1 or self.chance.random() < 0.15)
            elif kind < 0.82:
                await self._look()
            else:
                await self._move(key)

    async def _want(self, sku: str) -> None:
        key, lines = f"{self.name} {sku}", [Line(sku, 1, PLACES[0])]
        held = await self._ask(lambda it: it.reserve(key, lines, ttl_seconds=SHORT_TTL))
        if isinstance(held, Reservation):
            self.crowd.abandoned.append(held.id)

    async def _ask(self, call: Call) -> object:
        """A quarter of everything is sent twice: at once, or when the first answer is there."""
        insist, chance = self.crowd.insist, self.chance
        twice = chance.random()
        if twice < SENT_TWICE / 2:
            return (await asyncio.gather(insist(call, chance), insist(call, chance)))[0]
        answer = await insist(call, chance)
        if twice < SENT_TWICE:
            await insist(call, chance)
        return answer

    async def _shop(self, key: str, *, abandons: bool) -> None:
        chance = self.chance
        shelf = chance.choice(self.crowd.shelves)
        lines = [
            Line(chance.choice(shelf), chance.choice((1, 1, 2)), chance.choice(PLACES))
            for _ in range(chance.choice((1, 1, 1, 2, 3)))
        ]
        is_apart = self.crowd.crosses and chance.random() < APART
        if is_apart:
            lines = self._lines_apart()
        ttl_seconds = SHORT_TTL if abandons or chance.random() < 0.2 else LONG_TTL

        async def reserve_among_many(inventory: Inventory) -> object:
            answer = (await inventory.reserve_many([ReserveRequest(key, lines, ttl_seconds)]))[0]
            if isinstance(answer, Exception):
                raise answer
            return answer

        async def reserve_apart(inventory: Inventory) -> object:
            try:
                return await inventory.reserve(key, lines, ttl_seconds=ttl_seconds)
            except asyncio.CancelledError:
                self.crowd.counts["baskets cut off"] += 1
                raise

        if is_apart:
            held = await self._ask(reserve_apart)
            self.crowd.counts["baskets"] += isinstance(held, Reservation)
        elif chance.random() < 0.1:
            held = await self._ask(reserve_among_many)
        else:
            held = await self._ask(lambda it: it.reserve(key, lines, ttl_seconds=ttl_seconds))
        if not isinstance(held, Reservation):
            return
        if chance.random() < 0.03:
            await self._ask(lambda it: it.reserve(key, lines[:1], ttl_seconds=LONG_TTL + 1))
        if is_apart and self.crowd.is_wider and chance.random() < CHANGED:
            lines = await self._change(held.id, lines, key)
        if not abandons:
            await self._resolve(held.id, lines, key)

    def _lines_apart(self) -> list[Line]:
        chance = self.chance
        shelves = chance.sample(self.crowd.shelves, chance.choice((2, len(self.crowd.shelves))))
        return [
            Line(chance.choice(shelf), chance.choice((1, 1, 2)), chance.choice(PLACES)) for shelf in shelves
        ]

    async def _change(self, reservation: str, lines: list[Line], key: str) -> list[Line]:
        """A cart gets other lines, or units of it lie elsewhere; the lines it has then. Of SKUs of which
        histories do not count the units, as they lie in several partitions.
        """
        others = self._lines_apart()
        changed = await self._ask(lambda it: it.replace_lines(reservation, others, op_id=f"{key} others"))
        if not isinstance(changed, Reservation):
            return lines
        self.crowd.counts["changed carts"] += 1
        first = others[0]
        goal = PLACES[first.location == PLACES[0]]
        moves = [Move(first.sku, first.location, goal, 1)]
        if self.chance.random() < 0.5:
            await self._ask(lambda it: it.move(reservation, moves, op_id=f"{key} elsewhere"))
        return others

    async def _resolve(self, reservation: str, lines: list[Line], key: str) -> None:
        chance = self.chance
        own = chance.choice((None, f"{key} own"))
        kind = chance.random()
        if kind < 0.3:
            await self._ask(lambda it: it.release(reservation, op_id=own))
            return
        if kind < 0.4:
            await self._ask(lambda it: it.extend(reservation, SHORT_TTL, op_id=own))
        if kind < 0.55:
            part, remainder = lines[:1], chance.choice(("keep", "release"))
            await self._ask(
                lambda it: it.commit(reservation, lines=part, remainder=remainder, op_id=f"{key} part")
            )
        if kind < 0.65:
            await self._ask(lambda it: it.commit(reservation, fulfil=True, op_id=own, if_expired="retake"))
            return
        await self._ask(lambda it: it.commit(reservation, op_id=f"{key} all", if_expired="retake"))
        if chance.random() < 0.6:
            await self._ask(lambda it: it.cancel(reservation, op_id=f"{key} no"))
        else:
            await self._ask(lambda it: it.fulfil(reservation, op_id=f"{key} out"))

    async def _float(self, key: str) -> None:
        """A hold that may lie anywhere in the pool: moved, bought or given back, whoever binds it anew."""
        chance, rules = self.chance, Rules(pool=POOL)
        wanted = [Wanted(FLOATING, chance.choice((1, 1, 2)))]
        ttl_seconds = chance.choice((SHORT_TTL, LONG_TTL))
        held = await self._ask(lambda it: it.source(key, wanted, rules=rules, ttl_seconds=ttl_seconds))
        if not isinstance(held, Reservation):
            return
        self.crowd.counts["floating holds"] += 1
        source = held.lines[0].location
        goal = PLACES[source == PLACES[0]]
        if chance.random() < 0.5:
            moves = [Move(FLOATING, source, goal, 1)]
            await self._ask(lambda it: it.move(held.id, moves, op_id=f"{key} move"))
        verb = chance.choice(("commit", "sell", "release", "leave"))
        if verb == "commit":
            await self._ask(lambda it: it.commit(held.id, op_id=f"{key} all"))
            await self._ask(lambda it: it.cancel(held.id, op_id=f"{key} no"))
        elif verb == "sell":
            await self._ask(lambda it: it.commit(held.id, fulfil=True, op_id=f"{key} sell"))
            movement = Movement(f"{key} in", MovementKind.RECEIVE, FLOATING, goal, 1)
            if isinstance(await self._ask(lambda it: it.record(movement)), MovementResult):
                self.crowd.moved[FLOATING, goal] += 1
        elif verb == "release":
            await self._ask(lambda it: it.release(held.id, op_id=f"{key} back"))

    async def _look(self) -> None:
        sku = self.chance.choice(self.chance.choice(self.crowd.shelves))
        if self.chance.random() < 0.3:
            await self.crowd.insist(lambda it: it.stock(sku), self.chance)
        else:
            await self.crowd.insist(lambda it: it.availability(sku), self.chance)

    async def _move(self, key: str) -> None:
        sku, chance = self.chance.choice(self.chance.choice(self.crowd.shelves)), self.chance
        kind = MovementKind.SALE if chance.random() < 0.2 else MovementKind.RECEIVE
        movement = Movement(key, kind, sku, chance.choice(PLACES), 1)
        if isinstance(await self._ask(lambda it: it.record(movement)), MovementResult):
            self.crowd.moved[sku, movement.location] += -1 if kind == MovementKind.SALE else 1


def choose_shelves(partitions: int) -> list[list[str]]:
    """The SKUs that may be in one basket: those of one partition."""
    shelves: dict[int, list[str]] = {}
    number = 0
    most = min(partitions, MOST_SHELVES)
    while sum(map(len, shelves.values())) < SKUS:
        sku, number = f"mug-{number}", number + 1
        partition = partition_of(sku, partitions)
        if partition not in shelves and len(shelves) == most:
            continue
        shelf = shelves.setdefault(partition, [])
        if len(shelf) < SKUS // most:
            shelf.append(sku)
    return list(shelves.values())


async def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    """Looks again and again; whether it became so in time."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110 - what is waited for tells nobody
                await asyncio.sleep(FIRST_PAUSE_SECONDS)
            return True
    return condition()
