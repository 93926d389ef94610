"""What guards cost the hot routes: the same worker with and without, in turns on one machine.

One worker, 64 connections of wrk, durability local. The guarded one asks for keys, counts what each caller
asks against a rate and tells the rest in every answer, and Prometheus reads its metrics all the time; the
bare one does none of it. Limits of size and time, and counting, cannot be turned off.
`python -m benchmarks.guards`
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from secrets import token_hex
from threading import Event
from urllib.request import Request, urlopen

from benchmarks import measure, servers, shop
from benchmarks.http_api import SKUS, fill
from benchmarks.measure import Figure, Pairs, Proof, figure_of
from benchmarks.servers import Served
from benchmarks.wrk_client import CONNECTIONS, Load, find_wrk, load
from engine import connect

SECONDS = 2
TARGET = 0.9
SIDES = ("bare", "guarded")
RATE = ("--requests-per-second", "1000000", "--request-burst", "1000000")
"""So much that nobody is refused."""
SCRAPE_SECONDS = 5.0
"""Three times as often as Prometheus reads when nobody tells it otherwise."""
DOES_NOT_SHOW = (
    "What limits of size and time and counting cost by themselves; a network, TLS, several workers, keys "
    "that are restricted (which read a reservation before a step), latency at a fixed rate. Driver, worker "
    "and store share the cores."
)


class Session:
    """A guarded worker and a bare one, and what each load found of each."""

    def __init__(self, seconds: int) -> None:
        self.loads: dict[tuple[str, str], list[Load]] = {}
        self._seconds = seconds

    def run(self, sides: dict[str, Served], pairs: int) -> None:
        """So many turns of each load on each side, in changing order, after one that does not count."""
        for turn in range(-1, pairs):
            for route in ("cart", "availability"):
                for side in SIDES if turn % 2 else reversed(SIDES):
                    arguments = (token_hex(8), str(SKUS))
                    found = load(sides[side], route, seconds=self._seconds, arguments=arguments)
                    if turn >= 0:
                        self.loads.setdefault((route, side), []).append(found)
                        print(f"{route}, {side}: {found.per_second:,.0f}/s", file=sys.stderr)

    def figures(self) -> list[Figure]:
        """The ratios with their target, then rates and CPU."""
        figures = []
        for route, name in (("cart", "reserve and commit"), ("availability", "availability")):
            rates = [[one.per_second for one in self.loads[route, side]] for side in reversed(SIDES)]
            figures.append(
                Pairs(*rates).figure(
                    f"{name}: guarded against bare", side_unit="1/s", target=TARGET, better="higher"
                )
            )
            for side in SIDES:
                cpu, labels = (
                    [one.worker_cpu for one in self.loads[route, side]],
                    {"side": side, "route": name},
                )
                figures.append(figure_of(f"{name}, {side}: CPU of the worker", cpu, "µs", labels=labels))
                cpu = [one.store_cpu for one in self.loads[route, side]]
                figures.append(figure_of(f"{name}, {side}: CPU of the store", cpu, "µs", labels=labels))
        return figures


@contextmanager
def scraped(served: Served) -> Iterator[None]:
    """Reads the metrics of a server again and again."""
    over = Event()
    request = Request(f"{served.url}/metrics", headers={"Authorization": f"Bearer {served.key}"})  # noqa: S310 - a server of ours

    def scrape() -> None:
        while not over.wait(SCRAPE_SECONDS):
            with urlopen(request, timeout=30) as answer:  # noqa: S310 - same
                answer.read()

    with ThreadPoolExecutor(1) as pool:
        scraping = pool.submit(scrape)
        try:
            yield
        finally:
            over.set()
        scraping.result()


async def prove(url: str, received: int) -> Proof:
    """The books promise no more than they have."""
    inventory = await connect(url, create=False)
    try:
        booked = await shop.add_up(inventory, (shop.sku_name(number) for number in range(SKUS)))
    finally:
        await inventory.close()
    holds = not booked.oversold and booked.on_hand == received
    detail = f"{booked.positions:,} positions promise no more than they have; {booked.on_hand:,} are on hand"
    return Proof(holds=holds, positions=booked.positions, answers=0, detail=detail)


def main(arguments: Sequence[str]) -> None:
    """Loads both sides in turns."""
    options = measure.parser_of("guards", (__doc__ or "").partition("\n")[0]).parse_args(arguments)
    find_wrk()
    seconds, pairs = (1, 1) if options.quick else (SECONDS, options.pairs)
    session = Session(seconds)
    with (
        servers.api(options.server) as bare,
        servers.api(options.server, *RATE, auth="keys") as guarded,
        scraped(guarded),
    ):
        received = [shop.run_loop(fill(one.store_url)) for one in (bare, guarded)]
        session.run({"bare": bare, "guarded": guarded}, pairs)
        proofs = [
            shop.run_loop(prove(one.store_url, units))
            for one, units in zip((bare, guarded), received, strict=True)
        ]
        name = bare.store_name
    result = measure.make_result(
        "guards",
        session.figures(),
        proofs,
        server=name,
        workload={
            "connections": CONNECTIONS,
            "seconds": seconds,
            "skus": SKUS,
            "workers": 1,
            "durability": "local",
            "seconds between scrapes": SCRAPE_SECONDS,
        },
        does_not_show=DOES_NOT_SHOW,
    )
    measure.finish(result, options)


if __name__ == "__main__":
    sys.exit(measure.run(main))
