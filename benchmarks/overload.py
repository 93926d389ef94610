"""More than can be done: what is still served, and how soon the rest is refused.

Two bottlenecks. The worker, overloaded in two ways: wrk keeps every connection of a pool busy all the time,
whatever the answer was, while a second driver sends a few requests at even intervals beside it and takes the
latencies; and requests arrive at three times the worker's peak, from thousands of callers who wait as
Retry-After says. The stock server: it is let run for a small part of the time
only, and requests arrive at 1, 2 and 3 times the rate that it then manages, on as many connections as they
take. `python -m benchmarks.overload`
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from secrets import token_hex
from threading import Event, Thread

from benchmarks import measure, servers, shop
from benchmarks.arrivals import WARM_UP_SECONDS, Arrived, Driver
from benchmarks.http_api import SKUS, fill, prove
from benchmarks.measure import SEED, BenchmarkError, Figure, Pairs, Proof, figure_of
from benchmarks.obedient import Crowd, Obeyed, reserves
from benchmarks.open_model import reserve_requests
from benchmarks.servers import Served
from benchmarks.wrk_client import CONNECTIONS, Flooded, find_wrk, flood

SECONDS = 4
POOLS = (2048, 4096, 6144)
"""Connections that are never idle; the peak is what `CONNECTIONS` of them reach."""
CHOSEN_POOL = 6144
PROBE_RATE, PROBE_CONNECTIONS = 400.0, 512
RUNS_SECONDS, STANDS_SECONDS = 0.002, 0.038
"""How the slow stock server runs and stands still, in turns."""
PEAK_CONNECTIONS = 256
"""Enough for the slow server to be busy whenever it runs."""
MOST_ARRIVALS = 12_000.0
"""What the driver, a Python program, sends without falling behind."""
ARRIVING_CONNECTIONS = 6000
TIMES = (1, 2, 3)
OBEDIENT = 6000
"""Callers who come back when they were told to, and not before."""
PARTS = (0.5, 0.75, 1.0, 1.25)
"""Of the worker's peak: at one of these rates those callers are served best, which is their own peak. Each of
them has a connection that was idle for a while, which alone costs the worker a third more than the few
connections of the pool that finds its peak."""
GOODPUT, REFUSAL_MS = 0.8, 50.0
DOES_NOT_SHOW = (
    "Three times the worker's own rate, all of it read and refused: receiving and sending alone cost about a "
    "quarter of a reserve. Callers who are never idle, whatever they were told, are refused as far as the "
    "answers pay for it and otherwise wait: what they get has no target. Of callers who wait as Retry-After "
    "says, those who are waiting send nothing (the figure 'sent' tells how much came). A network, several "
    "workers. Drivers, worker and store share the cores. The slow server is an ordinary one that is stopped "
    "and let run by signals."
)


class Session:
    """A worker with its store, and what was asked of it."""

    def __init__(self, api: Served, seconds: int) -> None:
        self._api = api
        self._seconds = seconds
        self.reserved = self.under_way = 0

    def peak(self, connections: int) -> Flooded:
        """What the worker serves to so many connections."""
        return self._note(self._flood(connections), connections)

    def overload(self, connections: int) -> tuple[Flooded, Arrived]:
        """A pool that is never idle, and the latencies that others see meanwhile."""

        async def both() -> tuple[Flooded, Arrived]:
            flooding = asyncio.create_task(asyncio.to_thread(self._flood, connections))
            # The driver's first second does not count: by then the flood is there.
            probe = Driver(self._api.url, reserve_requests(), PROBE_CONNECTIONS)
            seen = await probe.run(PROBE_RATE, max(1.0, self._seconds - WARM_UP_SECONDS - 1))
            return await flooding, seen

        flooded, seen = shop.run_loop(both())
        self.reserved += seen.answered - seen.refused
        return self._note(flooded, connections), seen

    def obeyed(self, rate: float) -> Obeyed:
        """Requests at a rate, from callers who do as Retry-After says."""
        crowd = Crowd(self._api.url, OBEDIENT, reserves(SKUS, token_hex(8), shop.sku_name, SEED))
        try:
            seen = crowd.run(rate, self._seconds)
        finally:
            crowd.close()
        self.reserved += crowd.reserved
        print(
            f"{rate:,.0f}/s arrive, {seen.sent / seen.seconds:,.0f}/s sent: {seen.goodput:,.0f}/s served, "
            f"p99 of refusals {seen.refused_p99:.1f} ms, of what is served {seen.served_p99:.1f} ms, "
            f"driver late p99 {seen.late_p99:.1f} ms",
            file=sys.stderr,
        )
        return seen

    def arrive(self, rate: float) -> Arrived:
        """Requests at a rate, whatever becomes of them."""
        driver = Driver(self._api.url, reserve_requests(), ARRIVING_CONNECTIONS)
        seen = shop.run_loop(driver.run(rate, self._seconds))
        self.reserved += seen.answered - seen.refused
        print(
            f"{rate:,.0f}/s arrive: {goodput_of(seen):,.0f}/s served, "
            f"p99 of refusals {refusal_ms(seen):.1f} ms, all p99 {seen.p99 / 1000:.0f} ms, "
            f"driver late p99 {seen.late_p99 / 1000:.1f} ms",
            file=sys.stderr,
        )
        return seen

    def _flood(self, connections: int) -> Flooded:
        arguments = (token_hex(8), str(SKUS))
        return flood(
            self._api, "reserve", seconds=self._seconds, arguments=arguments, connections=connections
        )

    def _note(self, flooded: Flooded, connections: int) -> Flooded:
        self.reserved += flooded.good
        self.under_way += connections
        print(
            f"{connections} connections: {flooded.goodput:,.0f}/s served, "
            f"{flooded.refused / flooded.seconds:,.0f}/s refused",
            file=sys.stderr,
        )
        return flooded


def goodput_of(seen: Arrived) -> float:
    """Requests a second that were served, those of the first second too."""
    return (seen.answered - seen.refused) / (seen.seconds + WARM_UP_SECONDS)


def refusal_ms(seen: Arrived) -> float:
    return seen.refused_latency["99.0"] / 1000


@contextmanager
def slow(pid: int) -> Iterator[None]:
    """Lets a process run for a small part of the time only."""
    over = Event()

    def stop_and_go() -> None:
        while not over.is_set():
            os.kill(pid, signal.SIGSTOP)
            time.sleep(STANDS_SECONDS)
            os.kill(pid, signal.SIGCONT)
            time.sleep(RUNS_SECONDS)

    thread = Thread(target=stop_and_go)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def with_busy_worker(server: str | None, seconds: int, pairs: int) -> tuple[list[Figure], list[Proof], str]:
    """The worker is the bottleneck."""
    peaks: list[float] = []
    obeyed: list[Obeyed] = []
    best: list[float] = []
    floods: dict[int, list[tuple[Flooded, Arrived]]] = {pool: [] for pool in POOLS}
    proofs, name = [], ""
    for _ in range(pairs):
        with servers.api(server) as api:
            name, received = api.store_name, shop.run_loop(fill(api.store_url))
            session = Session(api, seconds)
            session.peak(CONNECTIONS)
            before = session.peak(CONNECTIONS).goodput
            for pool, found in floods.items():
                found.append(session.overload(pool))
            peaks.append((before + session.peak(CONNECTIONS).goodput) / 2)
            best.append(max(session.obeyed(part * peaks[-1]).goodput for part in PARTS))
            obeyed.append(session.obeyed(max(TIMES) * peaks[-1]))
            proofs.append(shop.run_loop(prove(api.store_url, received, session.reserved, session.under_way)))
    figures = [figure_of("busy worker: peak", peaks, "1/s", better="higher")]
    for pool, found in floods.items():
        is_chosen = pool == CHOSEN_POOL
        what = f"busy worker, {pool:,} connections never idle"
        figures += [
            Pairs([flooded.goodput for flooded, _ in found], peaks).figure(
                f"{what}: served against peak",
                side_unit="1/s",
                better="higher",
            ),
            figure_of(
                f"{what}: refusals",
                [flooded.refused / flooded.seconds for flooded, _ in found],
                "1/s",
            ),
            figure_of(
                f"{what}: p99 of refusals",
                [refusal_ms(seen) for _, seen in found],
                "ms",
                target=REFUSAL_MS if is_chosen else None,
            ),
            figure_of(f"{what}: p99 of all answers", [seen.p99 / 1000 for _, seen in found], "ms"),
        ]
    return [*figures, *_of_obedient(obeyed, best, peaks)], proofs, name


def _of_obedient(found: list[Obeyed], best: list[float], peaks: list[float]) -> list[Figure]:
    callers = f"busy worker, {OBEDIENT:,} callers who wait as told"
    what = f"{callers}, {max(TIMES)} × its peak arrive"
    goodput = [seen.goodput for seen in found]
    return [
        figure_of(f"{callers}: their peak", best, "1/s", better="higher"),
        Pairs(goodput, best).figure(
            f"{what}: served against their peak", side_unit="1/s", target=GOODPUT, better="higher"
        ),
        Pairs(goodput, peaks).figure(
            f"{what}: served against the peak of {CONNECTIONS} connections", side_unit="1/s", better="higher"
        ),
        figure_of(f"{what}: arrived", [seen.arrived / seen.seconds for seen in found], "1/s"),
        figure_of(f"{what}: sent", [seen.sent / seen.seconds for seen in found], "1/s"),
        figure_of(f"{what}: refusals", [seen.refused / seen.seconds for seen in found], "1/s"),
        figure_of(f"{what}: p99 of refusals", [seen.refused_p99 for seen in found], "ms", target=REFUSAL_MS),
        figure_of(f"{what}: p99 of what is served", [seen.served_p99 for seen in found], "ms"),
        figure_of(f"{what}: p99 of the driver's own lateness", [seen.late_p99 for seen in found], "ms"),
    ]


def with_slow_server(server: str | None, seconds: int, pairs: int) -> tuple[list[Figure], list[Proof]]:
    """The stock server is the bottleneck."""
    peaks: list[float] = []
    arrived: dict[int, list[Arrived]] = {times: [] for times in TIMES}
    with servers.api(server) as api:
        received = shop.run_loop(fill(api.store_url))
        session = Session(api, seconds)
        with slow(api.store_pid):
            session.peak(PEAK_CONNECTIONS)
            for _ in range(pairs):
                peak = session.peak(PEAK_CONNECTIONS).goodput
                peaks.append(peak)
                for times, found in arrived.items():
                    found.append(session.arrive(peak * times))
        proof = shop.run_loop(prove(api.store_url, received, session.reserved, session.under_way))
    figures = [figure_of("slow server: peak", peaks, "1/s", better="higher")]
    for times, found in arrived.items():
        what, is_chosen = f"slow server, {times} × its peak arrive", times == max(TIMES)
        figures += [
            Pairs([goodput_of(seen) for seen in found], peaks).figure(
                f"{what}: served against peak",
                side_unit="1/s",
                target=GOODPUT if is_chosen else None,
                better="higher",
            ),
            figure_of(
                f"{what}: p99 of refusals",
                [refusal_ms(seen) for seen in found],
                "ms",
                target=REFUSAL_MS if is_chosen else None,
            ),
            figure_of(f"{what}: p99 of all answers", [seen.p99 / 1000 for seen in found], "ms"),
            figure_of(f"{what}: p99 of the driver's own lateness", [s.late_p99 / 1000 for s in found], "ms"),
        ]
    if max(peaks) * max(TIMES) > MOST_ARRIVALS * 2:
        raise BenchmarkError(f"the slow server is too fast for the driver: {max(peaks):,.0f}/s")
    return figures, [proof]


def main(arguments: Sequence[str]) -> None:
    """Overloads the worker, then the stock server."""
    options = measure.parser_of("overload", (__doc__ or "").partition("\n")[0]).parse_args(arguments)
    find_wrk()
    seconds, pairs = (3, 1) if options.quick else (SECONDS, options.pairs)
    figures, proofs, name = with_busy_worker(options.server, seconds, pairs)
    slow_figures, slow_proofs = with_slow_server(options.server, seconds, pairs)
    result = measure.make_result(
        "overload",
        [*figures, *slow_figures],
        [*proofs, *slow_proofs],
        server=name,
        workload={
            "seconds": seconds,
            "skus": SKUS,
            "workers": 1,
            "durability": "local",
            "probe": PROBE_RATE,
            "arriving connections": ARRIVING_CONNECTIONS,
            "slow server runs": RUNS_SECONDS,
            "slow server stands": STANDS_SECONDS,
        },
        does_not_show=DOES_NOT_SHOW,
    )
    measure.finish(result, options)


if __name__ == "__main__":
    sys.exit(measure.run(main))
