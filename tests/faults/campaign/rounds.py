"""One round: a site, a crowd, a fault or two, and the judgement. All of its choices come from one seed."""

import asyncio
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from logging import CRITICAL, getLogger
from pathlib import Path
from random import Random
from time import monotonic

import msgspec
from msgspec import Struct

from engine import limits
from engine.audit import AuditReport
from engine.check import Report, check
from engine.check.reading import find_files
from engine.history import RecordedInventory
from engine.script import Library
from engine.workers import Host, Reconciler, Sweeper
from tests.faults.campaign import group_faults, outside_faults, served, single_faults
from tests.faults.campaign.faults import FAULTS, Fault, Scene
from tests.faults.campaign.proxy import Proxy
from tests.faults.campaign.shoppers import Crowd, NoConvergenceError
from tests.faults.campaign.sites import Shared, Single, Site
from tests.faults.campaign.sums import find_gap
from tests.topology.groups import GroupError

FAULT_MODULES = (single_faults, outside_faults, group_faults, served)
CONNECTIONS = 2
GROUPS = ("sentinel", "cluster")
TWO_FAULTS = 0.3
CROSSING = 0.6
"""Of the rounds with several partitions those with baskets over them."""
CUT_OFF = 0.08
"""In those, the share of calls that nobody waits for long enough: coordinators end anywhere."""
SINGLE_WEIGHT = 4
"""How much likelier a fault of one server is than one of a group, which takes longer."""
SHOWN_VIOLATIONS = 5
ROUND_SECONDS = 90.0
PARTS_FOLLOW_SECONDS, AUDIT_PAUSE_SECONDS = limits.SEEK_MS / 1000 + 12, 0.2
"""A part that a coordinator asked for and did not live to decide on asks its home after SEEK_MS."""
LAPSED_AFTER_SECONDS = 1.15
"""The first holds last a second; a sweep follows within a tenth."""
STAKES = ("unknown", "replays", "refusals", "expiries", "last units")
"""Without each of these a round proves nothing."""


class Size(Struct, frozen=True):
    """How much happens in a round."""

    shoppers: int = 20
    operations: int = 600
    """Answers at the least, a hundred before the first fault and a hundred after the last."""


SHORT, LONG = Size(), Size(shoppers=32, operations=3000)


class Verdict(Struct):
    """What a round showed."""

    seed: int
    faults: list[str]
    site: str
    tier: str
    partitions: int
    operations: int = 0
    """Checked by the history, repeats counted one by one."""

    stakes: dict[str, int] = msgspec.field(default_factory=dict)
    evidence: dict[str, int] = msgspec.field(default_factory=dict)
    events: int = 0
    losses: int = 0
    """Violations of the history in a round that may lose: the loss was seen."""

    seconds: float = 0.0
    violations: list[str] = msgspec.field(default_factory=list)
    vacuous: list[str] = msgspec.field(default_factory=list)
    """Why the round proves nothing."""

    not_begun: str = ""
    """Why its servers were not ready: no fault was struck and no operation done, so it says nothing."""

    @property
    def counts(self) -> bool:
        return not (self.violations or self.vacuous or self.not_begun)

    def __str__(self) -> str:
        faults = "+".join(self.faults)
        wrong = [*self.violations, *(f"vacuous: {reason}" for reason in self.vacuous)]
        if self.not_begun:
            wrong.append(f"not begun: {self.not_begun}")
        return f"seed {self.seed} ({faults}, P={self.partitions}): {'; '.join(wrong) or 'sound'}"


class Plan(Struct, frozen=True):
    """A round that is to be. `choose` makes the same of the same seed."""

    seed: int
    faults: tuple[str, ...]
    partitions: int
    size: Size
    crosses: bool = False
    """Whether baskets lie in several partitions."""


def choose(seed: int, wanted: Sequence[str], size: Size, *, first: str | None = None) -> Plan:
    """What a seed stands for: one of the wanted faults (or `first`), sometimes a second one."""
    chance = Random(seed)
    weights = [SINGLE_WEIGHT if FAULTS[name].site == "single" else 1 for name in wanted]
    one = FAULTS[first or chance.choices(wanted, weights)[0]]
    others = [
        name
        for name in wanted
        if not FAULTS[name].goes_alone and FAULTS[name].tier == one.tier and name != one.name
    ]
    names = [one.name]
    if not one.goes_alone and others and chance.random() < TWO_FAULTS:
        names.append(chance.choice(others))
    partitions = chance.choice((1, 1, 4, 8))
    has_many = partitions > 1 if one.site == "single" else one.site == "cluster"
    return Plan(seed, tuple(names), partitions, size, crosses=has_many and chance.random() < CROSSING)


def run_round(plan: Plan, shared: Shared, scripts: Library | None = None, tier: str | None = None) -> Verdict:
    """Plays a round to its end and judges it. `scripts` may stand in for those of this release, `tier` for
    that of faults of groups: at `replicated` a promotion may lose nothing.
    """
    faults = [FAULTS[name] for name in plan.faults]
    if tier is None or faults[0].site not in GROUPS:
        tier = faults[0].tier
    site: Site
    if faults[0].site == "single":
        has_clock = any(fault.has_clock for fault in faults)
        site = Single(shared.program, tier=tier, partitions=plan.partitions, has_clock=has_clock)
    elif faults[0].site == "served":
        site = served.Served(shared.program, tier=tier)
    else:
        site = shared.group(faults[0].site, tier)
    verdict = Verdict(plan.seed, list(plan.faults), faults[0].site, tier, site.partitions)
    folder, began = Path(tempfile.mkdtemp(prefix="bincard-history-")), monotonic()
    try:
        asyncio.run(_Round(plan, faults, site, folder, scripts, verdict).run())
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    verdict.seconds = round(monotonic() - began, 3)
    return verdict


class _Round:
    def __init__(
        self,
        plan: Plan,
        faults: Sequence[Fault],
        site: Site,
        folder: Path,
        scripts: Library | None,
        verdict: Verdict,
    ) -> None:
        self.plan, self.faults, self.site, self.folder = plan, faults, site, folder
        self.scripts, self.verdict = scripts, verdict
        self.chance = Random(f"round {plan.seed}")
        self.excused = frozenset[str]().union(*(fault.excused for fault in faults))
        self.crossing: dict[str, int] = {}
        self.must_lose = any(fault.must_lose for fault in faults)
        self.may_lose = self.must_lose or any(verdict.tier in fault.may_lose for fault in faults)
        # Readers do not wait for replicas: at a promotion they may have seen what nobody was promised.
        self.may_undo = any(fault.may_lose for fault in faults)

    async def run(self) -> None:
        asyncio.get_running_loop().set_exception_handler(self._note)
        try:
            await self.site.begin()
        except GroupError as fault:
            self.verdict.not_begun = str(fault)
            await self.site.end()
            return
        try:
            async with asyncio.timeout(ROUND_SECONDS):
                await self._play()
        except (NoConvergenceError, TimeoutError) as fault:
            self.verdict.violations.append(f"G4: {fault or f'still not over after {ROUND_SECONDS:.0f} s'}")
        except Exception as fault:  # noqa: BLE001 - one round must not end the campaign
            self.verdict.violations.append(f"the round broke off: {type(fault).__name__}: {fault}")
        finally:
            await self.site.end()

    def _note(self, _: asyncio.AbstractEventLoop, context: Mapping[str, object]) -> None:
        """What the loop would only log: somebody's exception that nobody took."""
        self.verdict.violations.append(f"unhandled: {context['message']}: {context.get('exception')!r}")

    async def _play(self) -> None:
        history = self.folder / "round.jsonl"
        async with AsyncExitStack() as stack:
            url, proxy = self.site.url, None
            if any(fault.is_proxied for fault in self.faults):
                assert isinstance(self.site, Single)
                proxy = await stack.enter_async_context(Proxy(self.site.socket, self.folder / "proxy.sock"))
                url = proxy.url
            inventories = []
            for _ in range(CONNECTIONS):
                inventories.append(await self.site.open(url, history, self.scripts))
                stack.push_async_callback(inventories[-1].close)
            crowd = Crowd(
                inventories,
                self.chance,
                partitions=self.site.partitions,
                shoppers=self.plan.size.shoppers,
                crosses=self.plan.crosses,
            )
            if self.plan.crosses:
                crowd.given_up = CUT_OFF
            stack.push_async_callback(crowd.stop)
            if isinstance(inventories[0], RecordedInventory):
                await self._sweep_beside(inventories[0], stack)
            states = await self._trouble(crowd, Scene(self.site, crowd, self.chance, proxy))
            if (
                not self.may_lose
                and isinstance(inventories[0], RecordedInventory)
                and (gap := await find_gap(crowd))
            ):
                self.verdict.violations.append(f"sums: {gap}")
            books = await self._audit()
        if self.plan.crosses:
            # Quantities of such partitions are judged by sums and audit: see engine/check.
            self.crossing = {
                "refusals": crowd.counts["insufficient_stock"],
                "last units": len(crowd.abandoned),
            }
            for name in ("baskets", "baskets cut off"):
                self.verdict.evidence[name] = crowd.counts[name]
        self._judge(check(find_files(history)), books, states)
        own = self.site.histories()
        if own is not None:
            self._judge_history(check(find_files(own)))

    async def _audit(self) -> AuditReport:
        """Once all parts of baskets agree with them, or those who see to that had the time."""
        ends = monotonic() + PARTS_FOLLOW_SECONDS
        while True:
            books = await self.site.audit()
            is_behind = any(note.name == "parts_behind" for note in books.notes)
            is_apart = self.may_lose and any("part of basket" in one.subject for one in books.differences)
            if monotonic() > ends or not (is_behind or is_apart):
                return books
            await asyncio.sleep(AUDIT_PAUSE_SECONDS)

    async def _sweep_beside(self, inventory: RecordedInventory, stack: AsyncExitStack) -> None:
        """The background workers that write, of any deployment."""
        host = Host([Sweeper(inventory.inner), Reconciler(inventory.inner)])
        running = asyncio.ensure_future(host.run())

        async def stop() -> None:
            host.stop()
            await running

        stack.push_async_callback(stop)

    async def _trouble(self, crowd: Crowd, scene: Scene) -> Mapping[str, int]:
        """Traffic, faults, the end of both; how many reservations were left in each state."""
        loop = asyncio.get_running_loop()
        await crowd.stock_up()
        began = loop.time()
        crowd.start()
        await crowd.until(100)
        for fault in self.faults:
            await scene.pause(0.0, 0.1)
            for name, count in (await fault.strike(scene)).items():
                self.verdict.evidence[f"{fault.name}: {name}"] = count
        crowd.be_patient()
        await crowd.until(100)
        while crowd.operations < self.plan.size.operations:
            await scene.pause(0.005, 0.005)
        await crowd.finish()
        await asyncio.sleep(began + LAPSED_AFTER_SECONDS - loop.time())
        await crowd.until_lapsed()
        return await crowd.read_back()

    def _judge(self, report: Report, books: AuditReport, states: Mapping[str, int]) -> None:
        verdict, counts = self.verdict, report.counts
        verdict.operations, verdict.events = report.operations, books.events
        verdict.stakes = {
            "unknown": report.unknown,
            "replays": counts.get("replays judged", 0),
            "refusals": sum(count for name, count in counts.items() if name.startswith("refusals judged")),
            "expiries": states.get("expired", 0),
            "last units": counts.get("promises of the last unit", 0),
            **self.crossing,
        }
        self._judge_history(report)
        verdict.violations += [
            f"books {one}"
            for one in (*books.violations[:SHOWN_VIOLATIONS], *books.differences[:SHOWN_VIOLATIONS])
            if getattr(one, "invariant", "") not in self.excused
        ]
        verdict.violations += [f"audit: {note.name}: {note.detail}" for note in books.notes]
        verdict.vacuous += [f"no {name}" for name in STAKES if not verdict.stakes[name]]
        verdict.vacuous += [f"no evidence of {name}" for name, count in verdict.evidence.items() if not count]

        if self.must_lose and not verdict.losses:
            verdict.violations.append("acknowledged work was undone, and the history does not show it")

    def _judge_history(self, report: Report) -> None:
        found = [one for one in report.violations if one.invariant not in self.excused]
        undone = report.counts.get("versions read and undone", 0)
        if undone and not (self.may_undo or self.must_lose):
            self.verdict.violations.append(f"history: {undone} versions were read and undone")
        if self.may_lose:
            self.verdict.losses += len(found)
        else:
            told = (f"history {one.invariant}: {one.subject}: {one.detail}" for one in found)
            self.verdict.violations += list(told)[:SHOWN_VIOLATIONS]


def play(plans: Sequence[Plan], program: Path, tier: str | None = None) -> Iterator[Verdict]:
    """Rounds one after the other, quietly; those on a group of servers share it."""
    getLogger("bincard").setLevel(CRITICAL)
    with Shared(program) as shared:
        for plan in plans:
            yield run_round(plan, shared, tier=tier)
