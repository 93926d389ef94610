"""Process entry of the background workers; `bincard worker` runs the same."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from logging import getLogger
from pathlib import Path
from time import monotonic, time
from typing import TYPE_CHECKING

from api.counts_exchange import CountsExchange
from api.lifeline import bind_to_parent
from api.listen import bind
from api.logs import configure_logging
from api.metrics import Gauges, HttpMetrics, WorkerCounts, worker_counts
from api.run_directory import RUN_DIRECTORY_VARIABLE
from api.settings import WorkerSettings
from engine import Inventory, Unavailable, connect
from engine.errors import DatasetUnfit
from engine.figures import ShopFigures
from engine.workers import Bookkeeper, Host, Indexer, Inheritor, Reconciler, Stocktaker, Surveyor, Sweeper

if TYPE_CHECKING:
    from api.metrics_listener import MetricsListener

log = getLogger("bincard.workers")

LONGEST_PAUSE_SECONDS = 1.0
NAME = "background"


async def work(url: str, run_directory: Path | None = None, listener: MetricsListener | None = None) -> None:
    """Runs the background workers on a data set until SIGTERM or SIGINT.

    Waits for a server that is not there yet. API workers that meet in `run_directory` tell its counts with
    theirs; where there are none, `listener` tells them. Raises `DatasetUnfit` where the server holds none
    that fits, `ValueError` for a URL that is none.
    """
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    async with AsyncExitStack() as open_until_then:
        if listener is not None:
            open_until_then.push_async_callback(listener.close)
            await listener.open()
            with suppress(OSError):
                print(f"Bincard works in the background; metrics {listener.url}")  # noqa: T201 - the line that whoever started it waits for
                sys.stdout.flush()
        inventory = await _connect(url, stopping)
        if inventory is None:
            return
        open_until_then.push_async_callback(inventory.close)
        readers = Surveyor(inventory), Bookkeeper(inventory), Stocktaker(inventory)
        writers = Sweeper(inventory), Reconciler(inventory), Indexer(inventory), Inheritor(inventory)
        host = Host([*writers, *readers])
        counts = _counts_of(inventory, *readers)
        if listener is not None:
            listener.tell(inventory, counts)
        exchange = CountsExchange(run_directory, NAME, counts)
        open_until_then.push_async_callback(exchange.close)
        await exchange.open()
        running = loop.create_task(host.run())
        await stopping.wait()
        host.stop()
        await running


def _counts_of(
    inventory: Inventory, surveyor: Surveyor, bookkeeper: Bookkeeper, stocktaker: Stocktaker
) -> Callable[[], WorkerCounts]:
    none_answered, started_at = HttpMetrics(), time()

    def own_counts() -> WorkerCounts:
        now = monotonic()
        figures = ShopFigures(now, surveyor.figures, stocktaker.counts, bookkeeper.counts())
        servers = () if figures.store is None else figures.store.servers
        differences = {one.name: one.clock_ms / 1000 + now - one.read_at - time() for one in servers}
        return worker_counts(
            NAME,
            none_answered,
            inventory.metrics,
            is_connected=inventory.is_connected,
            gauges=Gauges(figures, differences),
            started_at=started_at,
        )

    return own_counts


async def _connect(url: str, stopping: asyncio.Event) -> Inventory | None:
    pause = 0.1
    while not stopping.is_set():
        try:
            return await connect(url, create=False)
        except Unavailable as fault:
            log.warning("the data set cannot be opened, trying again in %g s: %s", pause, fault)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await stopping.wait()
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
    return None


def run(url: str, run_directory: Path | None = None, listener: MetricsListener | None = None) -> None:
    """Runs `work` in an event loop of its own."""
    import uvloop  # noqa: PLC0415 - start-up time

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work(url, run_directory, listener))


def run_alone(url: str, settings: WorkerSettings) -> None:
    """The same without an API beside it, so that it tells its metrics itself. Raises `PortTakenError`,
    `SettingsError`.
    """
    from api.metrics_listener import MetricsListener  # noqa: PLC0415 - the API's own background does without

    with bind(settings.metrics_host, settings.metrics_port, "metrics-") as listener:
        run(url, listener=MetricsListener(listener, asks_keys=settings.auth == "keys"))


def main() -> None:
    """Starts as a child of the supervisor."""
    bind_to_parent()
    configure_logging(NAME)
    try:
        run(os.environ["BINCARD_REDIS_URL"], Path(os.environ[RUN_DIRECTORY_VARIABLE]))
    except DatasetUnfit as fault:
        log.error("%s", fault)  # noqa: TRY400 - its text tells all
        sys.exit(1)


if __name__ == "__main__":
    main()
