"""Who is let in, who waits and who is turned away, with guests that only take notes."""

import asyncio
from collections.abc import Callable

import pytest

from api.admission import (
    AT_ONCE,
    FEWEST,
    FIRST,
    IDLE,
    LONGEST_WAIT_SECONDS,
    MOST,
    NOBODY,
    PATIENCE_SECONDS,
    REFUSALS_PER_ANSWER,
    SHARES,
    STEADY,
    TICK_SECONDS,
    Admission,
    Kind,
    Rank,
    kind_of,
    next_limit,
    operations_of,
)


class Guest:
    """One request; let in, it counts as under way until the test ends it."""

    def __init__(self, admission: Admission, rank: Rank, notes: list[str]) -> None:
        self.kind = Kind(rank, "POST", "/")
        self.waits = False
        self._admission = admission
        self._notes = notes

    def let_in(self) -> None:
        self._admission.enter(1)
        self._notes.append(f"{self.kind.rank.name} in")

    def turn_away(self, seconds: float) -> None:
        assert seconds > 0
        self._notes.append(f"{self.kind.rank.name} away")


def full(stuck: Callable[[], int] = lambda: 0) -> Admission:
    """An admission that has no room for reserves."""
    admission = Admission(stuck)
    admission.enter(FIRST)
    return admission


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not is_so():  # noqa: ASYNC110 - what is waited for is a timer of the admission
            await asyncio.sleep(0.001)


async def test_commits_go_before_reserves_and_reserves_before_reads() -> None:
    """Room goes to the best rank first, whoever came first; within a rank to who came first."""
    admission, notes = full(), list[str]()
    for rank in (Rank.READ, Rank.RESERVE, Rank.RESERVE, Rank.COMMIT):
        admission.wait(Guest(admission, rank, notes))
    admission.leave(2)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert notes == ["COMMIT in", "RESERVE in"]
    admission.leave(admission.under_way)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert notes == ["COMMIT in", "RESERVE in", "RESERVE in", "READ in"]
    assert admission.is_easy


async def test_what_is_kept_for_better_ranks() -> None:
    """Reads are shut out first, commits last."""
    admission = Admission()
    assert [admission.has_room(rank) for rank in Rank] == [True] * 4
    shut: list[list[Rank]] = []
    for share in sorted(SHARES):
        admission.enter(int(share * FIRST) - admission.under_way)
        shut.append([rank for rank in Rank if not admission.has_room(rank)])
    assert shut == [
        [Rank.READ],
        [Rank.RESERVE, Rank.READ],
        [Rank.RELEASE, Rank.RESERVE, Rank.READ],
        list(Rank),
    ]


async def test_nobody_overtakes_within_a_rank() -> None:
    """While one waits, those of its rank and below have no room."""
    admission = full()
    admission.wait(Guest(admission, Rank.RESERVE, []))
    admission.under_way = 0
    assert admission.has_room(Rank.COMMIT)
    assert not admission.has_room(Rank.RESERVE)
    assert not admission.has_room(Rank.READ)


async def test_who_waits_too_long_is_turned_away() -> None:
    """Without any answer from the server, and not earlier than promised; who went away is told nothing."""
    admission, notes = full(), list[str]()
    gone = Guest(admission, Rank.RESERVE, notes)
    admission.wait(gone)
    admission.wait(Guest(admission, Rank.RESERVE, notes))
    admission.wait(Guest(admission, Rank.READ, notes))
    gone.waits = False
    await asyncio.sleep(0)
    assert notes == []
    await until(lambda: len(notes) == 2)
    assert notes == ["RESERVE away", "READ away"]
    assert admission.shed == [0, 0, 1, 1]


async def busy(monkeypatch: pytest.MonkeyPatch) -> Admission:
    """An admission that has found out that its process has no time left, and has as many under way as
    such a process gets at once.
    """
    monkeypatch.setattr("api.admission._OwnLoad.since_last", lambda _: 1e9)
    admission = Admission()
    admission.enter(AT_ONCE)
    assert admission.has_room(Rank.RESERVE)
    await until(lambda: not admission.has_room(Rank.RESERVE))
    return admission


async def test_a_busy_process_takes_few_at_once_and_refuses_none_of_its_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who is within the limit waits for its turn, however long that takes."""
    admission, notes = await busy(monkeypatch), list[str]()
    admission.leave(40)
    admission.enter(40)
    assert not admission.refuses(Rank.RESERVE)
    admission.wait(Guest(admission, Rank.RESERVE, notes))
    await asyncio.sleep(3 * PATIENCE_SECONDS)
    assert notes == []
    admission.leave(1)
    await until(lambda: bool(notes))
    assert notes == ["RESERVE in"]


async def test_a_busy_process_refuses_who_has_others_go_before_all_the_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A read behind reserves that never end would wait for ever."""
    admission, notes = await busy(monkeypatch), list[str]()
    admission.leave(40)
    admission.enter(40)
    admission.wait(Guest(admission, Rank.READ, notes))
    admission.wait(Guest(admission, Rank.RESERVE, notes))
    await until(lambda: bool(notes))
    assert notes == ["READ away"]


async def test_a_busy_process_refuses_at_once_what_its_answers_pay_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One too many is refused when it comes, and not more of them than a share of what was answered."""
    admission = await busy(monkeypatch)
    answers = 40
    admission.leave(answers)
    admission.enter(answers)
    admission.enter(admission.limit)
    assert not admission.refuses(Rank.RELEASE)
    refused = [admission.refuses(Rank.RESERVE) for _ in range(answers)]
    paid = sum(refused)
    assert REFUSALS_PER_ANSWER * answers <= paid <= REFUSALS_PER_ANSWER * (answers + 1)
    assert all(refused[:paid])
    assert admission.shed == [0, 0, paid, 0]
    notes = list[str]()
    admission.wait(Guest(admission, Rank.RESERVE, notes))
    await asyncio.sleep(3 * PATIENCE_SECONDS)
    assert notes == []


async def test_a_process_that_waits_for_its_server_refuses_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """All who are over at the same time, whatever a refusal costs."""
    monkeypatch.setattr("api.admission._OwnLoad.since_last", lambda _: 0.0)
    admission, notes = full(), list[str]()
    for _ in range(10):
        admission.wait(Guest(admission, Rank.RESERVE, notes))
    await until(lambda: bool(notes))
    assert notes == ["RESERVE away"] * 10


async def test_what_is_stuck_keeps_nobody_out() -> None:
    """Operations that wait for a node which has stopped to answer do not count, so that others go on."""
    stuck = 0
    admission = full(lambda: stuck)
    assert not admission.has_room(Rank.READ)
    stuck = 2 * FIRST
    await until(lambda: admission.is_easy)
    admission.enter(FIRST)
    assert admission.has_room(Rank.READ)
    stuck = 0
    await until(lambda: not admission.has_room(Rank.RESERVE))


async def test_a_burst_has_room_whole() -> None:
    """Some are let in without even being looked at, and four thousand have room."""
    admission = Admission()
    for _ in range(AT_ONCE):
        assert admission.is_easy
        admission.enter(1)
    for _ in range(FIRST - AT_ONCE):
        assert admission.has_room(Rank.RESERVE)
        admission.enter(1)


async def test_the_beginning_of_a_burst_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What few answers there are in its first moments do not set the limit, and neither does what an earlier
    burst met.
    """
    loop, asked = asyncio.get_running_loop(), list[tuple[float, float]]()

    def note(limit: int, per_second: float, busy: float) -> int:
        asked.append((loop.time(), per_second))
        return next_limit(limit, per_second, busy)

    monkeypatch.setattr("api.admission.next_limit", note)
    admission = full()
    for _ in range(2):
        begun = loop.time()
        admission.leave(1)
        await until(lambda: bool(asked))
        assert asked[0][0] - begun > LONGEST_WAIT_SECONDS - TICK_SECONDS
        assert asked[0][1] <= 1 / (LONGEST_WAIT_SECONDS - TICK_SECONDS)
        assert admission.limit == FEWEST
        admission.leave(admission.under_way)
        await until(lambda: admission.is_easy)
        assert admission.limit == FIRST
        assert admission.has_room(Rank.READ)
        admission.enter(FIRST)
        asked.clear()


def test_the_limit_follows_what_is_answered() -> None:
    """A slow server gets fewer at once, one that is waited for more, a busy process no more than need be."""
    assert next_limit(FIRST, 100.0, 0.1) == next_limit(FIRST, 100.0, 1.0) == FEWEST
    assert next_limit(FIRST, 8000.0, 0.1) == 2000
    assert next_limit(FIRST, 1e6, IDLE - 0.1) == FIRST * 5 // 4
    assert next_limit(MOST, 1e6, 0.1) == MOST
    assert next_limit(2000, 20_000.0, 1.0) == 1800
    assert next_limit(1050, 20_000.0, 1.0) == next_limit(FEWEST, 20_000.0, 1.0) == 1000
    assert next_limit(STEADY + 10, 5000.0, 1.0) == next_limit(FEWEST, 5000.0, 1.0) == STEADY
    assert next_limit(2000, 20_000.0, 0.9) == 2000


@pytest.mark.parametrize(
    ("line", "rank", "route"),
    [
        (b"POST /v1/reservations", Rank.RESERVE, "/v1/reservations"),
        (b"POST /v1/reservations/batch", Rank.RESERVE, "/v1/reservations/batch"),
        (b"POST /v1/reservations/r_1/commit", Rank.COMMIT, "/v1/reservations/{id}/commit"),
        (b"POST /v1/reservations/r_1/fulfil", Rank.COMMIT, "/v1/reservations/{id}/fulfil"),
        (b"POST /v1/reservations/r_1/release", Rank.RELEASE, "/v1/reservations/{id}/release"),
        (b"GET /v1/reservations/r_1", Rank.READ, "/v1/reservations/{id}"),
        (b"GET /v1/availability/A%2F1?location=s7", Rank.READ, "/v1/availability/{sku}"),
        (b"POST /v1/availability/query", Rank.READ, "/v1/availability/query"),
    ],
)
def test_kinds(line: bytes, rank: Rank, route: str) -> None:
    """The first line is enough."""
    kind = kind_of(line + b" HTTP/1.1\r\nHost: shop\r\n\r\n")
    assert kind == (rank, line.partition(b" ")[0].decode(), route)


@pytest.mark.parametrize(
    "data", [b"", b"GET /healthz HTTP/1.1\r\n\r\n", b"POST /v1/reserva", b"GET /metrics HTTP/1.1\r\n\r\n"]
)
def test_the_state_of_the_service_is_always_told(data: bytes) -> None:
    """Health and metrics are of no kind, and so never wait; neither does half a line."""
    assert kind_of(data) is None
    assert NOBODY.route == "unmatched"


def test_a_batch_counts_by_its_operations() -> None:
    """As far as its size tells."""
    assert operations_of(0) == operations_of(120) == 1
    assert 20 <= operations_of(100 * 180) <= 100
