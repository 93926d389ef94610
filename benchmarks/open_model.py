"""Latency of the API at fixed rates, next to a bare ASGI hello at the same rate.

Requests leave when the rate says so, and a latency begins at that moment. `python -m benchmarks.open_model`
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Sequence
from secrets import token_hex
from threading import Timer

from redis import Redis

from benchmarks import measure, servers, shop
from benchmarks.arrivals import CONNECTIONS, WARM_UP_SECONDS, Arrived, Driver
from benchmarks.http_api import SKUS, fill, prove
from benchmarks.measure import SEED, BenchmarkError, Figure, Pairs, figure_of
from benchmarks.servers import Served
from benchmarks.wrk_client import load

SECONDS = 10
PEAK_SECONDS = 4
TARGET = 3.0
SHARES = (0.1, 0.25, 0.5, 0.75, 0.9)
"""Of the peak: the points of the curve."""
DOES_NOT_SHOW = (
    "A network, TLS, API keys, several workers, arrivals in bursts: they come at even intervals. The driver "
    "is one Python process on the same cores; where its own lateness (figures named driver) nears the "
    "latencies, they say little about the server. The store's log is rewritten in one run alone, which has "
    "a figure of its own."
)
REWRITE_AFTER_SECONDS = WARM_UP_SECONDS + 0.5


def reserve_requests() -> Callable[[int], bytes]:
    """Reserves of one line of random SKUs, each with a key of its own."""
    chance, prefix = random.Random(SEED), token_hex(8)

    def make(number: int) -> bytes:
        body = (
            f'{{"lines":[{{"sku":"{shop.sku_name(chance.randrange(SKUS))}","quantity":1,"location":"w0"}}],'
            '"ttl_seconds":86400}'
        )
        return (
            "POST /v1/reservations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Idempotency-Key: {prefix}{number}\r\nContent-Length: {len(body)}\r\n\r\n{body}"
        ).encode()

    return make


def availability_requests() -> Callable[[int], bytes]:
    """Availability of random SKUs."""
    chance = random.Random(SEED)

    def make(_number: int) -> bytes:
        sku = shop.sku_name(chance.randrange(SKUS))
        return f"GET /v1/availability/{sku} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()

    return make


def hello_requests() -> Callable[[int], bytes]:
    """The bare application's only request."""
    return lambda _number: b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Session:
    """The servers of one run."""

    def __init__(self, api: Served, hello: Served, seconds: float) -> None:
        self._api = api
        self._hello = hello
        self._seconds = seconds
        self.reserved = self.under_way = 0

    def find_peak(self, seconds: int) -> float:
        """Reserves a second in a closed loop."""
        found = load(self._api, "reserve", seconds=seconds, arguments=(token_hex(8), str(SKUS)))
        self.reserved += found.requests
        self.under_way += CONNECTIONS
        return found.per_second

    def arrive(self, route: str, rate: float) -> Arrived:
        """One run of a route at a rate. Raises `BenchmarkError` for an answer that is no success."""
        makers = {
            "reserve": reserve_requests,
            "availability": availability_requests,
            "hello": hello_requests,
        }
        served = self._hello if route == "hello" else self._api
        found = shop.run_loop(Driver(served.url, makers[route]()).run(rate, self._seconds))
        if found.refused:
            raise BenchmarkError(f"{found.refused} of {found.answered} requests were refused: {route}")
        if route == "reserve":
            self.reserved += found.answered
        print(f"{route} at {rate:,.0f}/s: p99 {found.p99 / 1000:.2f} ms", file=sys.stderr)
        return found

    def arrive_while_rewritten(self, rate: float) -> Arrived:
        """Reserves at a rate, and in the midst of them the store rewrites its log."""
        with Redis.from_url(self._api.store_url) as client:
            timer = Timer(REWRITE_AFTER_SECONDS, client.bgrewriteaof)
            timer.start()
            try:
                return self.arrive("reserve", rate)
            finally:
                timer.cancel()


def half_of_peak(session: Session, peak: float, pairs: int) -> list[Figure]:
    """The p99 of both routes against that of the hello, all at half of the peak."""
    runs: dict[str, list[Arrived]] = {"hello": [], "reserve": [], "availability": []}
    for turn in range(pairs):
        for route in runs if turn % 2 else reversed(runs):
            runs[route].append(session.arrive(route, peak / 2))
    p99 = {route: [one.p99 / 1000 for one in found] for route, found in runs.items()}
    figures = [
        Pairs(p99[route], p99["hello"]).figure(
            f"p99 of {route} against hello at half of peak", side_unit="ms", target=TARGET
        )
        for route in ("reserve", "availability")
    ]
    for route, found in runs.items():
        late = [one.late_p99 / 1000 for one in found]
        figures += [
            figure_of(f"p99 of {route} at half of peak", p99[route], "ms"),
            figure_of(f"driver: p99 of its own lateness, {route}", late, "ms"),
        ]
    return figures


def curve(session: Session, peak: float) -> list[Figure]:
    """Latencies at several rates, once each."""
    figures = []
    for share in SHARES:
        for route in ("hello", "reserve", "availability"):
            found = session.arrive(route, peak * share)
            for quantile, micros in found.latency.items():
                labels = {"curve": "latency", "route": route, "rate": round(found.rate), "share": quantile}
                name = f"{route} at {found.rate:,.0f}/s: p{quantile}"
                figures.append(figure_of(name, [micros / 1000], "ms", labels=labels))
    return figures


def main(arguments: Sequence[str]) -> None:
    """Finds the peak, compares at half of it, then draws the curve."""
    parser = measure.parser_of("open_model", (__doc__ or "").partition("\n")[0])
    parser.add_argument("--peak", type=float, help="reserves a second at the most (default: measured by wrk)")
    options = parser.parse_args(arguments)
    seconds, pairs = (1.0, 1) if options.quick else (SECONDS, options.pairs)
    with servers.api(options.server) as api, servers.bare("hello") as hello:
        received = shop.run_loop(fill(api.store_url))
        session = Session(api, hello, seconds)
        session.find_peak(1)
        peak = options.peak or session.find_peak(1 if options.quick else PEAK_SECONDS)
        figures = [figure_of("peak of reserve, closed loop", [peak], "1/s", better="higher")]
        figures += half_of_peak(session, peak, pairs)
        rewritten = session.arrive_while_rewritten(peak / 2).p99 / 1000
        figures.append(
            figure_of("p99 of reserve at half of peak, the log rewritten meanwhile", [rewritten], "ms")
        )
        if not options.quick:
            figures += curve(session, peak)
        proof = shop.run_loop(prove(api.store_url, received, session.reserved, session.under_way))
    result = measure.make_result(
        "open_model",
        figures,
        [proof],
        server=api.store_name,
        workload={
            "connections": CONNECTIONS,
            "seconds": seconds,
            "skus": SKUS,
            "peak": measure.rounded(peak),
        },
        does_not_show=DOES_NOT_SHOW,
    )
    measure.finish(result, options)


if __name__ == "__main__":
    sys.exit(measure.run(main))
