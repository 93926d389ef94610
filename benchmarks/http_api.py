"""The API over HTTP against a bare ASGI hello and a typed FastAPI route, in turns on one machine.

One worker, 64 connections of wrk (8 for batches), metrics on, durability local.
`python -m benchmarks.http_api`
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from secrets import token_hex

from benchmarks import measure, servers, shop
from benchmarks.measure import Figure, Pairs, Proof, figure_of
from benchmarks.servers import Served
from benchmarks.wrk_client import CONNECTIONS, Load, find_wrk, load
from engine import connect

SKUS = 1000
BATCH = 100
BATCH_CONNECTIONS = 8
"""800 reserves under way. With 64 it were 6,400, a quarter of a second of work: the figure would tell how
callers queue, and those who come last are let in one by one between the turns of the others.
"""
SECONDS = 5
DOES_NOT_SHOW = (
    "A network, TLS, API keys, several workers, or latency at a fixed rate: wrk sends the next request when "
    "it has the last answer (see open_model). wrk, worker and store share the cores; the bare "
    "applications have no store beside them. The store's log is not rewritten meanwhile."
)


async def fill(url: str) -> int:
    """Brings stock; how many units."""
    inventory = await connect(url)
    try:
        await shop.open_locations(inventory, 1)
        return await shop.receive(inventory, ((shop.sku_name(n), "w0", shop.PLENTY) for n in range(SKUS)))
    finally:
        await inventory.close()


async def prove(url: str, received: int, reserved: int, under_way: int) -> Proof:
    """The books hold what was answered, and at the most what wrk did not wait for at the end of a run."""
    inventory = await connect(url, create=False)
    try:
        booked = await shop.add_up(inventory, (shop.sku_name(number) for number in range(SKUS)))
    finally:
        await inventory.close()
    faults = [f"oversold: {where}" for where in booked.oversold[:5]]
    if not reserved <= booked.held <= reserved + under_way:
        faults.append(
            f"held: books {booked.held:,}, answers {reserved:,} and at the most {under_way:,} unread"
        )
    if booked.on_hand != received:
        faults.append(f"on hand: books {booked.on_hand:,}, answers {received:,}")
    detail = "; ".join(faults) or (
        f"{booked.positions:,} positions promise no more than they have; {booked.held:,} units are held: "
        f"{reserved:,} answered, the others under way when a run ended"
    )
    return Proof(holds=not faults, positions=booked.positions, answers=reserved, detail=detail)


class Session:
    """The servers of one run, and what each load found, in turns. Each turn has an API and a store of its
    own: nobody pays for the millions of holds that earlier turns left.
    """

    def __init__(self, server: str | None, hello: Served, typed: Served, seconds: int) -> None:
        self.loads: dict[str, list[Load]] = {}
        self.proofs: list[Proof] = []
        self.store_name = ""
        self._server = server
        self._hello = hello
        self._typed = typed
        self._seconds = seconds
        self._reserved = self._under_way = 0

    def run(self, pairs: int) -> None:
        """So many turns of each load, in changing order, after one that does not count."""
        for turn in range(-1, pairs):
            with servers.api(self._server) as api:
                self.store_name = api.store_name
                self._take_turn(turn, api)

    def _take_turn(self, turn: int, api: Served) -> None:
        seconds, self._reserved, self._under_way = self._seconds, 0, 0
        loads: dict[str, Callable[[], Load]] = {
            "hello": lambda: load(self._hello, "hello", seconds=seconds),
            "reserve": lambda: self._reserve(api, SKUS),
            "typed": lambda: load(self._typed, "reserve", seconds=seconds, arguments=("k", str(SKUS))),
            "hot": lambda: self._reserve(api, 1),
            "availability": lambda: load(api, "availability", seconds=seconds, arguments=("", str(SKUS))),
            "batch": lambda: self._batch(api),
        }
        received = shop.run_loop(fill(api.store_url))
        for name in loads if turn % 2 else reversed(loads):
            found = loads[name]()
            if turn >= 0:
                self.loads.setdefault(name, []).append(found)
                print(f"{name}: {found.per_second:,.0f}/s", file=sys.stderr)
        self.proofs.append(shop.run_loop(prove(api.store_url, received, self._reserved, self._under_way)))

    def _reserve(self, api: Served, skus: int) -> Load:
        arguments = (token_hex(8), str(skus))
        found = load(api, "reserve", seconds=self._seconds, arguments=arguments)
        self._reserved += found.requests
        self._under_way += CONNECTIONS
        return found

    def _batch(self, api: Served) -> Load:
        arguments = (token_hex(8), str(SKUS), str(BATCH))
        found = load(api, "batch", seconds=self._seconds, arguments=arguments, connections=BATCH_CONNECTIONS)
        self._reserved += BATCH * found.requests
        self._under_way += BATCH * BATCH_CONNECTIONS
        return found

    def figures(self) -> list[Figure]:
        """The ratios with their targets, then rates, latencies and CPU."""
        rates = {name: [one.per_second for one in loads] for name, loads in self.loads.items()}
        rates["reserves in batches"] = [BATCH * rate for rate in rates["batch"]]
        ratios = (
            ("reserve", "hello", 0.55),
            ("availability", "hello", 0.75),
            ("reserve", "typed", 2.5),
            ("reserves in batches", "reserve", 2.5),
            ("hot", "reserve", 0.95),
        )
        figures = [
            Pairs(rates[mine], rates[theirs]).figure(
                f"{mine} against {theirs}", side_unit="1/s", target=target, better="higher"
            )
            for mine, theirs, target in ratios
        ]
        for name, loads in self.loads.items():
            labels = {"route": name}
            figures.append(figure_of(f"{name}: requests", rates[name], "1/s", better="higher", labels=labels))
            for share in ("p50", "p99", "p999"):
                series = [getattr(one, share) / 1000 for one in loads]
                figures.append(figure_of(f"{name}: {share}, closed loop", series, "ms", labels=labels))
            for side in ("worker", "store"):
                series = [getattr(one, f"{side}_cpu") for one in loads]
                if any(series):
                    figures.append(figure_of(f"{name}: CPU of the {side}", series, "µs", labels=labels))
        return figures


def main(arguments: Sequence[str]) -> None:
    """Loads every route in turns."""
    options = measure.parser_of("http_api", (__doc__ or "").partition("\n")[0]).parse_args(arguments)
    find_wrk()
    seconds, pairs = (1, 1) if options.quick else (SECONDS, options.pairs)
    with servers.bare("hello") as hello, servers.bare("typed") as typed:
        session = Session(options.server, hello, typed, seconds)
        session.run(pairs)
    result = measure.make_result(
        "http_api",
        session.figures(),
        session.proofs,
        server=session.store_name,
        workload={
            "connections": CONNECTIONS,
            "seconds": seconds,
            "skus": SKUS,
            "batch": BATCH,
            "batch_connections": BATCH_CONNECTIONS,
            "workers": 1,
            "durability": "local",
        },
        does_not_show=DOES_NOT_SHOW,
    )
    measure.finish(result, options)


if __name__ == "__main__":
    sys.exit(measure.run(main))
