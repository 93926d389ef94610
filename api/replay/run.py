"""The replay: real baskets against a running server, as many clients at once, then the proof."""

from __future__ import annotations

import asyncio
import gc
import secrets
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from api.replay.answers import Answers, Fate
from api.replay.baskets import Baskets, BasketsUnavailableError, Chosen, complete_journey
from api.replay.client import DEFAULT_TIMEOUT_S, Target
from api.replay.generator import generate
from api.replay.plan import Planner
from api.replay.proof import READ_BACK, Prover
from api.replay.report import Outcomes, Proof, ReplayReport, latency, write_json
from api.replay.shop import ServerGoneError, Shopper, Tally
from api.replay.stock import (
    StockRefusedError,
    Supply,
    open_locations,
    read_baseline,
    receive,
    spread,
    supply,
)
from api.replay.traffic import Traffic
from api.replay.wire import Position

DEFAULT_SCARCITY = 0.9
"""Stock per unit of demand; of 100,000 real baskets about 4 % are then refused."""

PATIENCE_S = 10.0
SETTLE_S = 5.0
SETTLE_AFTER_CRASH_S = 35.0
"""After a crash a basket across partitions is healed within 30 s; then the books must agree."""

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplayOptions:
    """What to replay against which server.

    `speed` multiplies the data's clock; without it the clients go as fast as they can. `survive_s`
    is how long a client repeats a request while the server is away. `source` "auto" takes the real
    baskets where they are installed and the generator elsewhere.
    """

    url: str
    baskets: int = 10_000
    clients: int = 64
    speed: float | None = None
    seed: int = 8451
    scarcity: float = DEFAULT_SCARCITY
    key: str | None = None
    survive_s: float = 0.0
    timeout_s: float = DEFAULT_TIMEOUT_S
    source: Literal["auto", "real", "generator"] = "auto"
    run: str | None = None
    json_file: Path | None = None
    progress: bool = True

    def __post_init__(self) -> None:
        """Refuse impossible options with a ValueError."""
        if self.baskets < 1 or self.clients < 1:
            raise ValueError("a replay needs at least one basket and one client")
        if self.scarcity <= 0 or (self.speed is not None and self.speed <= 0):
            raise ValueError("scarcity and speed must be above zero")


@dataclass(slots=True)
class Phase:
    """What one phase counted and how many seconds it took."""

    tally: Tally
    seconds: float = 0.0


def replay(options: ReplayOptions) -> ReplayReport:
    """Run a whole replay in its own event loop and give its report; `report.ok` is the verdict.

    Raises:
        BasketsUnavailableError: the real baskets were asked for and are not installed.
        ValueError: the URL is none, or the key cannot be a header.
    """
    target = Target(options.url, options.key)
    chosen = Chosen(choose_source(options), options.baskets)
    report = run_loop(Replay(options, target, chosen).go())
    if options.json_file is not None:
        write_json(report, options.json_file)
    return report


def choose_source(options: ReplayOptions) -> Baskets:
    """Open the source of baskets that the options ask for."""
    if options.source != "generator":
        try:
            return complete_journey()
        except BasketsUnavailableError:
            if options.source == "real":
                raise
    return generate(count=options.baskets, seed=options.seed)


def run_loop(work: Coroutine[None, None, Result]) -> Result:
    """Run a coroutine to its end, on uvloop where that is installed."""
    try:
        import uvloop  # noqa: PLC0415  (absent on Windows)
    except ImportError:
        return asyncio.run(work)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


class Replay:
    """One replay: load, traffic, proof."""

    def __init__(self, options: ReplayOptions, target: Target, chosen: Chosen) -> None:
        self._options = options
        self._chosen = chosen
        self._run = options.run or f"replay-{int(time.time()):x}-{secrets.token_hex(3)}"
        self._answers = Answers(chosen)
        self._loading, self._selling, self._proving = (Phase(Tally()) for _ in range(3))
        self._lines_sent = 0
        patience_s = options.survive_s or PATIENCE_S
        self._shoppers: Sequence[Shopper] = [
            Shopper(target, Tally(), patience_s=patience_s, timeout_s=options.timeout_s)
            for _ in range(options.clients)
        ]
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            refresh_per_second=2,
            disable=not options.progress,
        )

    async def go(self) -> ReplayReport:
        """Run the phases; a server that goes away or refuses the stock ends the replay early."""
        wanted = supply(self._chosen, self._options.scarcity)
        proof = Proof()
        stopped = ""
        prover: Prover | None = None
        try:
            with self._bar:
                with self._phase(self._loading):
                    baseline = await self._load(wanted)
                prover = self._prover(wanted, baseline)
                with self._phase(self._selling):
                    await self._sell()
                with self._phase(self._proving):
                    proof = await self._prove(prover, wanted)
        except (ServerGoneError, StockRefusedError) as gone:
            stopped = str(gone)
            if prover is not None:
                proof = prover.finish()
        finally:
            for shopper in self._shoppers:
                shopper.close()
        return self._report(proof, wanted, stopped)

    async def _load(self, wanted: Supply) -> dict[int, Position]:
        """Open the stores, note what they hold already, and receive the stock."""
        known = await open_locations(self._shoppers, wanted.locations())
        baseline: dict[int, Position] = {}
        if known:
            done = self._counter("Reading the books", len(wanted.by_sku()))
            baseline = await read_baseline(self._shoppers, wanted, done)
        moved = self._counter("Receiving stock", len(wanted.received))
        await receive(self._shoppers, wanted.movements(self._run), moved)
        return baseline

    async def _sell(self) -> None:
        traffic = Traffic(
            self._chosen,
            self._answers,
            Planner(self._options.seed),
            run=self._run,
            speed=self._options.speed,
            served=self._counter("Serving baskets", self._chosen.count),
        )
        gc.collect()
        gc.freeze()  # A pause of the client must not be read as a latency of the server.
        try:
            await spread(self._shoppers, self._shoppers, lambda shopper, _: traffic.serve(shopper))
        finally:
            gc.unfreeze()
            self._lines_sent = traffic.lines

    async def _prove(self, prover: Prover, wanted: Supply) -> Proof:
        reservations = min(READ_BACK, len(self._answers.acknowledged()))
        done = self._counter("Comparing the books", reservations + len(wanted.by_sku()))
        return await prover.prove(self._shoppers, done)

    def _prover(self, wanted: Supply, baseline: dict[int, Position]) -> Prover:
        survive = self._options.survive_s > 0
        return Prover(
            self._answers,
            wanted,
            baseline,
            seed=self._options.seed,
            settle_s=SETTLE_AFTER_CRASH_S if survive else SETTLE_S,
        )

    @contextmanager
    def _phase(self, phase: Phase) -> Iterator[None]:
        """Count requests into this phase and take its time."""
        for shopper in self._shoppers:
            shopper.tally = phase.tally
        began = time.monotonic()
        try:
            yield
        finally:
            phase.seconds = time.monotonic() - began

    def _counter(self, title: str, total: int) -> Callable[[int], None]:
        """Open a progress bar; the callable moves it on, drawing only now and then."""
        task = self._bar.add_task(title, total=total)
        step = max(1, total // 200)
        count = drawn = 0

        def more(number: int) -> None:
            nonlocal count, drawn
            count += number
            if count - drawn >= step or count >= total:
                drawn = count
                self._bar.update(task, completed=count)

        return more

    def _outcomes(self) -> Outcomes:
        answers, tally = self._answers, self._selling.tally
        return Outcomes(
            held=len(answers.acknowledged()),
            refused=answers.count(Fate.REFUSED),
            committed=answers.count(Fate.COMMITTED),
            fulfilled=answers.count(Fate.FULFILLED),
            released=answers.count(Fate.RELEASED),
            expired=answers.count(Fate.HELD),
            extended=answers.extended,
            unresolved=answers.count(Fate.UNRESOLVED),
            duplicates_sent=tally.duplicates,
            replayed_answers=tally.replayed,
            unknown_outcomes=tally.unknown,
            unknown_resolved=tally.resolved,
            turned_away=tally.turned_away,
        )

    def _report(self, proof: Proof, wanted: Supply, stopped: str) -> ReplayReport:
        options, tally = self._options, self._selling.tally
        sent = self._chosen.count - self._answers.count(Fate.UNSENT)
        seconds = max(self._selling.seconds, 1e-9)
        return ReplayReport(
            run=self._run,
            url=options.url,
            source=self._chosen.source.origin,
            ok=not stopped and proof.answers_agree and proof.books_agree,
            stopped=stopped,
            seed=options.seed,
            scarcity=options.scarcity,
            clients=options.clients,
            speed=options.speed,
            baskets=sent,
            lines=self._lines_sent,
            skus=len(wanted.by_sku()),
            locations=len(wanted.locations()),
            positions=len(wanted.received),
            load_seconds=self._loading.seconds,
            traffic_seconds=self._selling.seconds,
            proof_seconds=self._proving.seconds,
            baskets_per_second=sent / seconds,
            lines_per_second=self._lines_sent / seconds,
            requests=tally.requests,
            requests_per_second=tally.requests / seconds,
            latency={verb.value: latency(taken) for verb, taken in tally.latencies.items()},
            outcomes=self._outcomes(),
            proof=proof,
        )
