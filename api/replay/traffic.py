"""The customers: they reserve, think, commit, come back, walk away, and send things twice."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable, Coroutine
from enum import IntEnum
from typing import NamedTuple

import msgspec

from api.replay.answers import Answers
from api.replay.baskets import Chosen
from api.replay.client import segment
from api.replay.plan import Custom, Plan, Planner
from api.replay.shop import ServerGoneError, Shopper, Twice, Verb
from api.replay.wire import Line, ReserveBody, State


class Step(IntEnum):
    """What a customer comes back for."""

    COMMIT = 0
    FULFIL = 1
    RELEASE = 2


class Move(NamedTuple):
    """One request about an existing reservation, and the state that it must lead to."""

    verb: Verb
    body: bytes
    twice: Twice
    state: State


Agenda = list[tuple[float, int, Step, Plan]]
"""A heap of (when on the monotonic clock in seconds, basket, step, plan)."""


class Traffic:
    """All customers of one replay; each client takes the next basket when it has nothing due.

    A customer who thinks does not keep a client from serving the next one. `speed` multiplies the
    data's clock; None takes a basket as soon as a client is free.
    """

    def __init__(
        self,
        chosen: Chosen,
        answers: Answers,
        planner: Planner,
        *,
        run: str,
        speed: float | None,
        served: Callable[[int], None],
    ) -> None:
        self._chosen = chosen
        self._answers = answers
        self._planner = planner
        self._run = run
        self._speed = speed
        self._served = served
        self._began = time.monotonic()
        self._next = 0
        self.lines = 0

    async def serve(self, shopper: Shopper) -> None:
        """Serve customers until all baskets are through.

        Raises:
            ServerGoneError: an outcome could not be learned; the basket is marked as unresolved.
        """
        agenda: Agenda = []
        number = self._take()
        while number is not None or agenda:
            opens = self._opens(number)
            when = min(opens, agenda[0][0]) if agenda else opens
            pause_s = when - time.monotonic()
            if pause_s > 0:
                await asyncio.sleep(pause_s)
            if agenda and agenda[0][0] <= opens:
                _, basket, step, plan = heapq.heappop(agenda)
                await self._guarded(self._go_on(shopper, agenda, basket, step, plan), basket)
            elif number is not None:
                await self._guarded(self._open(shopper, agenda, number), number)
                self._served(1)
                number = self._take()

    def _take(self) -> int | None:
        """Take the next basket, in time order."""
        number = self._next
        if number >= self._chosen.count:
            return None
        self._next = number + 1
        return number

    def _opens(self, number: int | None) -> float:
        """When the customer of this basket comes, on the monotonic clock; never in the past."""
        if number is None:
            return float("inf")
        now = time.monotonic()
        if self._speed is None:
            return now
        return max(now, self._began + self._chosen.opened_ms(number) / 1000 / self._speed)

    async def _guarded(self, step: Coroutine[None, None, None], number: int) -> None:
        """Do one step; if the server is gone, the basket's outcome is unknown."""
        try:
            await step
        except (ServerGoneError, asyncio.CancelledError):
            self._answers.unresolved(number)
            raise

    async def _open(self, shopper: Shopper, agenda: Agenda, number: int) -> None:
        """Reserve a basket; a POS sale is committed and fulfilled at once."""
        plan = self._planner.plan(number)
        lines = self._basket(number)
        reference = self._chosen.reference(number)
        body = msgspec.json.encode(
            ReserveBody(
                lines=lines,
                ttl_seconds=plan.ttl_s,
                owner=f"{plan.custom.name.lower()}-{number}",
                reference=reference,
            )
        )
        request = shopper.target.request("POST", "/v1/reservations", body, self._key(number, Verb.RESERVE))
        asked_ns = time.monotonic_ns()
        told = await shopper.tell(Verb.RESERVE, request, plan.reserve_twice)
        self.lines += len(lines)
        told_ns = time.monotonic_ns()
        if self._answers.reserved(number, told, lines, told_ns=told_ns) is None:
            return
        back = time.monotonic() + plan.think_s
        if plan.custom is Custom.POS:
            await self._go_on(shopper, agenda, number, Step.COMMIT, plan)
        elif plan.custom is Custom.WEB:
            heapq.heappush(agenda, (back, number, Step.COMMIT, plan))
        elif plan.custom is Custom.RELEASED:
            heapq.heappush(agenda, (back, number, Step.RELEASE, plan))
        else:
            self._answers.abandoned(number, asked_ns=asked_ns, ttl_s=plan.ttl_s)

    async def _go_on(self, shopper: Shopper, agenda: Agenda, number: int, step: Step, plan: Plan) -> None:
        """Do what the customer came back for."""
        if step is Step.RELEASE:
            self._answers.releasing(number, asked_ns=time.monotonic_ns())
            await self._step(shopper, number, Move(Verb.RELEASE, b"", plan.settle_twice, State.RELEASED))
        elif step is Step.FULFIL:
            await self._step(shopper, number, Move(Verb.FULFIL, b"{}", plan.fulfil_twice, State.FULFILLED))
        elif plan.custom is Custom.POS:
            sale = Move(Verb.COMMIT, b'{"fulfil":true}', plan.settle_twice, State.FULFILLED)
            await self._step(shopper, number, sale)
        else:
            if plan.extended:
                body = b'{"ttl_seconds":%d}' % plan.ttl_s
                longer = Move(Verb.EXTEND, body, plan.extend_twice, State.HELD)
                await self._step(shopper, number, longer)
            order = Move(Verb.COMMIT, b"", plan.settle_twice, State.COMMITTED)
            if await self._step(shopper, number, order) and plan.fulfilled:
                back = time.monotonic() + plan.think_s
                heapq.heappush(agenda, (back, number, Step.FULFIL, plan))

    async def _step(self, shopper: Shopper, number: int, move: Move) -> bool:
        """Send one step of a reservation; tell whether it led to the expected state."""
        path = f"/v1/reservations/{segment(self._answers.ids[number])}/{move.verb}"
        request = shopper.target.request("POST", path, move.body, self._key(number, move.verb))
        told = await shopper.tell(move.verb, request, move.twice)
        return self._answers.stepped(number, move.verb, told, move.state)

    def _key(self, number: int, verb: Verb) -> str:
        return f"{self._run}-{number}-{verb}"

    def _basket(self, number: int) -> list[Line]:
        source = self._chosen.source
        basket, _ = self._chosen.place(number)
        location = source.locations[source.stores[basket]]
        skus, line_skus, quantities = source.skus, source.line_skus, source.line_quantities
        return [Line(skus[line_skus[line]], quantities[line], location) for line in source.lines(basket)]
