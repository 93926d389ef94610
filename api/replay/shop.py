"""A client of the shop: sends a request, perhaps twice, until its outcome is known."""

from __future__ import annotations

import asyncio
import time
from array import array
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from http import HTTPStatus
from typing import NamedTuple

from api.replay.client import Answer, Caller, OutcomeUnknownError, Target

LONGEST_WAIT_S = 1.0
"""A server's Retry-After is followed up to this long: a replay is impatient on purpose."""


class Verb(StrEnum):
    """The mutating requests of a replay, and the reads of its proof."""

    RESERVE = "reserve"
    COMMIT = "commit"
    RELEASE = "release"
    EXTEND = "extend"
    FULFIL = "fulfil"
    RECEIVE = "receive"
    READ = "read"


class Twice(Enum):
    """Whether a request is sent a second time with the same key, and when."""

    NO = 0
    AT_ONCE = 1
    AFTERWARDS = 2


class ServerGoneError(Exception):
    """No outcome could be learned within the time that the replay was allowed to wait."""


@dataclass(slots=True)
class Tally:
    """Counts that grow while the replay runs; latencies in microseconds per verb."""

    requests: int = 0
    duplicates: int = 0
    replayed: int = 0
    unknown: int = 0
    resolved: int = 0
    turned_away: int = 0
    latencies: dict[Verb, array[int]] = field(default_factory=dict)

    def answered(self, verb: Verb, began_ns: int) -> None:
        """Count an answer and how long it took."""
        self.requests += 1
        took = (time.perf_counter_ns() - began_ns) // 1000
        try:
            self.latencies[verb].append(took)
        except KeyError:
            self.latencies[verb] = array("Q", (took,))


class Told(NamedTuple):
    """The settled answers to one request.

    `hesitated` if some attempt's outcome was unknown, `in_order` if the second attempt began after
    the first was answered.
    """

    answers: tuple[Answer, ...]
    hesitated: bool
    in_order: bool


class Shopper:
    """One client: a connection, and a spare one for requests that are sent twice at once.

    `patience_s` bounds how long one request is repeated before the server counts as gone.
    """

    def __init__(self, target: Target, tally: Tally, *, patience_s: float, timeout_s: float) -> None:
        self.target = target
        self.tally = tally
        self._patience_s = patience_s
        self._main = Caller(target, timeout_s=timeout_s)
        self._spare = Caller(target, timeout_s=timeout_s)

    async def read(self, path: str) -> Answer:
        """GET, repeated until it is answered.

        Raises:
            ServerGoneError: it never was.
        """
        request = self.target.request("GET", path)
        answer, _ = await self._settle(self._main, Verb.READ, request)
        return answer

    async def tell(self, verb: Verb, request: bytes, twice: Twice = Twice.NO) -> Told:
        """Send a mutating request until its outcome is known; a duplicate has the same bytes.

        Raises:
            ServerGoneError: the outcome stays unknown.
        """
        if twice is Twice.NO:
            answer, hesitated = await self._settle(self._main, verb, request)
            return Told((answer,), hesitated, in_order=True)
        self.tally.duplicates += 1
        if twice is Twice.AT_ONCE:
            first, second = await asyncio.gather(
                self._settle(self._main, verb, request),
                self._settle(self._spare, verb, request),
            )
        else:
            first = await self._settle(self._main, verb, request)
            second = await self._settle(self._main, verb, request)
        return Told((first[0], second[0]), first[1] or second[1], in_order=twice is Twice.AFTERWARDS)

    def close(self) -> None:
        """Cut both connections."""
        self._main.close()
        self._spare.close()

    async def _settle(self, caller: Caller, verb: Verb, request: bytes) -> tuple[Answer, bool]:
        """Repeat one request until something else than 'unknown' or 'later' comes back."""
        tally = self.tally
        hesitated = False
        give_up_at = 0.0
        pause_s = 0.01
        while True:
            began_ns = time.perf_counter_ns()
            try:
                answer = await caller.ask(request)
            except OutcomeUnknownError as unknown:
                cause = str(unknown)
                tally.unknown += 1
                hesitated = True
                asked_pause_s = 0.0
            else:
                tally.answered(verb, began_ns)
                tally.replayed += answer.replayed
                if answer.status == HTTPStatus.TOO_MANY_REQUESTS:
                    tally.turned_away += 1
                elif answer.status < HTTPStatus.INTERNAL_SERVER_ERROR:
                    tally.resolved += hesitated
                    return answer, hesitated
                else:
                    tally.unknown += 1
                    hesitated = True
                cause = f"{answer.status} {answer.body[:200].decode(errors='replace')}"
                asked_pause_s = answer.retry_after_s
            now = time.monotonic()
            give_up_at = give_up_at or now + self._patience_s
            if now >= give_up_at:
                raise ServerGoneError(f"no outcome after {self._patience_s:g} s: {cause}")
            await asyncio.sleep(min(LONGEST_WAIT_S, max(pause_s, asked_pause_s)))
            pause_s = min(0.5, pause_s * 2)
