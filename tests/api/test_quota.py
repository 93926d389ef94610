"""How often a caller may ask: exactly so often, whichever worker is asked."""

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api import quota
from api.limits import Limits
from api.problems import ProblemError
from api.quota import SLOTS, Quota, Rate, network_of
from api.run_directory import RUN_DIRECTORY_VARIABLE
from tests.api.service import Service, expect_problem, fresh_key, running
from tests.servers import Server


class _Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    clock = _Clock()
    monkeypatch.setattr(quota, "monotonic", clock)
    return clock


def _asks(own: Quota, caller: str, requests: int = 1) -> bool:
    try:
        own.charge(caller, requests)
    except ProblemError:
        return False
    return True


def test_a_burst_and_then_the_rate(clock: _Clock) -> None:
    own = Quota(Rate(10, 5))
    assert [_asks(own, "a") for _ in range(7)] == [True] * 5 + [False] * 2
    assert _asks(own, "b")
    clock.now += 0.1
    assert [_asks(own, "a") for _ in range(2)] == [True, False]
    clock.now += 100
    assert [_asks(own, "a") for _ in range(6)] == [True] * 5 + [False]


def test_what_is_told(clock: _Clock) -> None:
    own = Quota(Rate(0.5, 4))
    assert dict(own.charge("a", 1)) == {
        b"ratelimit-policy": b'"caller";q=4;w=8',
        b"ratelimit": b'"caller";r=3;t=2',
    }
    own.charge("a", 3)
    with pytest.raises(ProblemError) as refused:
        own.charge("a", 1)
    assert refused.value.code == "quota_exceeded"
    assert refused.value.headers == {
        "Retry-After": "2",
        "RateLimit-Policy": '"caller";q=4;w=8',
        "RateLimit": '"caller";r=0;t=2',
    }


def test_more_than_a_bucket_holds_needs_a_full_one(clock: _Clock) -> None:
    own = Quota(Rate(10, 5))
    assert _asks(own, "a", 1000)
    assert not _asks(own, "a")
    clock.now += 0.4
    assert not _asks(own, "a", 1000)
    clock.now += 0.11
    assert _asks(own, "a", 1000)


def test_a_rate_of_ones_own(clock: _Clock) -> None:
    own = Quota(None)
    assert own.charge("a", 1) == []
    assert own.charge("a", 1, Rate(1, 1))
    with pytest.raises(ProblemError):
        own.charge("a", 1, Rate(1, 1))


def test_workers_share(clock: _Clock, tmp_path: Path) -> None:
    one, other = Quota(Rate(10, 6), tmp_path), Quota(Rate(10, 6), tmp_path)
    assert sum(_asks(who, "a") for _ in range(10) for who in (one, other)) == 6
    assert tmp_path.joinpath("quota").stat().st_mode & 0o077 == 0


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0, 2)), max_size=200))
def test_never_more_than_the_burst_and_the_rate(steps: list[tuple[int, float]]) -> None:
    """However the requests are spread: within any time, no more than the bucket and what flowed in."""
    with pytest.MonkeyPatch.context() as patched:
        clock = _Clock()
        patched.setattr(quota, "monotonic", clock)
        own = Quota(Rate(3, 4))
        taken: list[float] = []
        for requests, pause in steps:
            clock.now += pause
            taken += [clock.now for _ in range(requests) if _asks(own, "a")]
    for first, since in enumerate(taken):
        for last in range(first, len(taken)):
            assert last - first + 1 <= 4 + 3 * (taken[last] - since) + 1e-6


def test_many_callers_need_no_more_memory(clock: _Clock) -> None:
    own = Quota(Rate(1, 1))
    assert all(_asks(own, f"caller {number}") for number in range(SLOTS + 1000))
    assert len(own._known) <= SLOTS


def test_an_owner_of_many_addresses_is_one_caller() -> None:
    assert network_of("2001:db8:1:2:3::4") == network_of("2001:db8:1:2:ffff::1") == "2001:db8:1:2::/64"
    assert network_of("2001:db8:1:3::1") != network_of("2001:db8:1:2::1")
    assert network_of("::ffff:10.0.0.1") == network_of("10.0.0.1") == "10.0.0.1"
    assert network_of("fe80::1%eth0") == "fe80::/64"


@pytest.fixture
def limited(stock_server: Server, tmp_path: Path) -> Iterator[list[Service]]:
    """Two workers, one for each way that a request can take, that share their buckets."""
    variables = Limits(requests_per_second=0.01, request_burst=20).as_variables()
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                running(
                    protocol,
                    stock_server.url,
                    worker=number,
                    variables={**variables, RUN_DIRECTORY_VARIABLE: str(tmp_path)},
                )
            )
            for number, protocol in enumerate(("hot", "asgi"))
        ]


def test_who_asks_too_often_is_told_so(limited: list[Service]) -> None:
    """On hot and on cold routes, over both workers; what is not for callers goes on."""
    hot, asgi = limited
    answers = [
        service.ask("GET", path)
        for _ in range(6)
        for service in (hot, asgi)
        for path in ("/v1/availability/none", "/v1/locations")
    ]
    left = []
    for answer in answers[:20]:
        assert answer.status in {404, 200}
        assert answer.headers["ratelimit-policy"] == '"caller";q=20;w=2000'
        found = re.fullmatch(r'"caller";r=(\d+);t=(\d+)', answer.headers["ratelimit"])
        assert found is not None
        left.append(int(found[1]))
    assert left == list(range(19, -1, -1))
    for answer in answers[20:]:
        expect_problem(answer, 429, "quota_exceeded")
        assert 0 < int(answer.headers["retry-after"]) <= 100
        assert answer.headers["ratelimit"].startswith('"caller";r=0;t=')
    for service in limited:
        assert service.ask("GET", "/healthz").status == 200
        assert service.ask("GET", "/readyz").status == 200
    assert 'bincard_limits_reached_total{limit="rate"} ' in hot.ask("GET", "/metrics").body.decode()


def test_a_batch_is_no_way_around(limited: list[Service]) -> None:
    operations = [{"op": "release", "id": "r_x", "key": fresh_key()} for _ in range(200)]
    first = limited[0].ask("POST", "/v1/reservations/batch", {"operations": operations})
    assert first.status == 207
    expect_problem(limited[0].ask("GET", "/v1/availability/none"), 429, "quota_exceeded")
