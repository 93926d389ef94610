"""A short campaign, and the proof that it notices what it is for."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest

from engine.script import Library, assemble, read_sources
from tests.faults.campaign import __main__ as long_campaign
from tests.faults.campaign import rounds, shoppers
from tests.faults.campaign.faults import FAULTS, Evidence, Fault, Scene
from tests.faults.campaign.rounds import SHORT, Plan, Verdict, choose, run_round
from tests.faults.campaign.sites import Shared, Single
from tests.servers import find_program
from tests.topology.groups import GroupError

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(240)]

AT_ONCE = 3
"""Rounds of one server mostly wait for the first holds to lapse."""

SINGLE = [name for name, fault in FAULTS.items() if fault.site == "single"]
FIRST_SEEDS = {"valkey": 1000, "redis7": 2000}
GROUP_ROUNDS = {
    "sentinel": {"valkey": ("failover", "replica_frozen"), "redis7": ("failover_frozen", "failover_behind")},
    "cluster": {"valkey": ("slot_moved", "replica_killed"), "redis7": ("primary_killed", "slot_moved")},
    "served": {
        "valkey": ("workers_killed", "everything_killed"),
        "redis7": ("stock_server_killed", "rolling_restart"),
    },
}


@pytest.fixture
def shared(server_name: str) -> Iterator[Shared]:
    """Of which the groups end with the test."""
    with Shared(find_program(server_name).path) as opened:
        yield opened


def play(plan: Plan, shared: Shared) -> Verdict:
    """A round that counts. One by chance in a thousand says nothing: it is played again, once."""
    verdict = run_round(plan, shared)
    says_nothing = (verdict.vacuous or verdict.not_begun) and not verdict.violations
    return run_round(plan, shared) if says_nothing else verdict


def expect_sound(verdicts: Sequence[Verdict]) -> None:
    """A failure names its seed and its faults."""
    failed = [str(verdict) for verdict in verdicts if not verdict.counts]
    assert not failed, "\n".join(failed)


def test_one_server(server_name: str, shared: Shared) -> None:
    """Every fault of one server twice, now and then with a second one: 44 rounds."""
    seeds = count(FIRST_SEEDS[server_name])
    plans = [choose(next(seeds), SINGLE, SHORT, first=name) for name in SINGLE * 2]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        expect_sound(list(pool.map(lambda plan: play(plan, shared), plans)))


@pytest.mark.parametrize("site", GROUP_ROUNDS)
def test_more_than_a_server(server_name: str, site: str, shared: Shared) -> None:
    """Promotions, slots that move, and the processes of a whole `bincard serve`."""
    seeds = count(FIRST_SEEDS[server_name])
    names = GROUP_ROUNDS[site][server_name]
    expect_sound([play(Plan(next(seeds), (name,), 1, SHORT), shared) for name in names])


# -------------------------------------------------------------------- planted bugs

PLANTED = [
    # Each a bug that a release might have: file, what is there, what is planted, where it shows.
    pytest.param("reserve", "remembered[id] or priors[i - 1]", "nil", "I2", id="ids are forgotten"),
    pytest.param(
        "card", "return free >= quantity", "return free >= quantity - 1", "I3", id="one unit too many"
    ),
    pytest.param("card", "return free >= quantity", "return free > quantity", "I9", id="one unit too few"),
    pytest.param(
        "lapse",
        "if state == STATE.HELD and deadline_ms <= now_ms then",
        "if state == STATE.HELD and deadline_ms < 0 then",
        "Difference",
        id="lapsed holds are forgotten and not given back",
    ),
    pytest.param(
        "lapse",
        "STATE.HELD, STATE.EXPIRED, -1, 0, 0)",
        "STATE.HELD, STATE.EXPIRED, 0, 0, 0)",
        "I4",
        id="lapsed units stay held",
    ),
]


@pytest.mark.parametrize(("file", "right", "wrong", "shows"), PLANTED)
def test_a_planted_bug_is_caught(
    server_name: str,
    shared: Shared,
    monkeypatch: pytest.MonkeyPatch,
    file: str,
    right: str,
    wrong: str,
    shows: str,
) -> None:
    """One round is enough, whatever its fault."""
    monkeypatch.setattr(shoppers, "LAPSE_SECONDS", 1.0)
    plan = choose(FIRST_SEEDS[server_name], SINGLE, SHORT, first="kill")
    verdict = run_round(plan, shared, plant(file, right, wrong))
    assert any(shows in told for told in verdict.violations), verdict


def test_a_lost_repair_is_caught(server_name: str, shared: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who lists what is to be repaired strikes it out: parts never hear that their basket has lapsed."""
    monkeypatch.setattr(rounds, "PARTS_FOLLOW_SECONDS", 7.0)
    plan = Plan(FIRST_SEEDS[server_name], ("kill",), 4, SHORT, crosses=True)
    right = "if kind == KIND.BASKET or kind == KIND.PART then"
    planted = plant("repair", right, "if false then")
    verdict = run_round(plan, shared, planted)
    assert any("part of basket" in told or "parts_behind" in told for told in verdict.violations), verdict


def plant(file: str, right: str, wrong: str) -> Library:
    """The scripts of this release with one bug."""
    includes, verbs = read_sources()
    sources = includes if file in includes else verbs
    assert sources[file].count(right) == 1, f"{file}.lua is not what this bug was planted in"
    sources = {**sources, file: sources[file].replace(right, wrong)}
    return assemble(sources, verbs) if file in includes else assemble(includes, sources)


# -------------------------------------------------------------------- what a round must notice


def register(monkeypatch: pytest.MonkeyPatch, strike: object, **changes: object) -> Plan:
    """A round with a fault that the campaign does not know."""
    fault: Fault = dataclasses.replace(FAULTS["kill"], name="planted", strike=strike, **changes)  # type: ignore[arg-type]
    monkeypatch.setitem(FAULTS, "planted", fault)
    return Plan(1, ("planted",), 1, SHORT)


def test_a_fault_that_does_not_bite(
    server_name: str, shared: Shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The round is sound, and proves nothing."""

    async def miss(scene: Scene) -> Evidence:
        return {"hits": 0}

    verdict = run_round(register(monkeypatch, miss), shared)
    assert (verdict.violations, verdict.vacuous) == ([], ["no evidence of planted: hits"])
    assert not verdict.counts


def test_nothing_at_stake(server_name: str, shared: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    """Callers who send nothing twice and want nothing that others want."""

    async def hit(scene: Scene) -> Evidence:
        return {"hits": 1}

    monkeypatch.setattr(shoppers, "SENT_TWICE", 0.0)
    monkeypatch.setattr(shoppers, "GIVEN_UP", 0.0)
    monkeypatch.setattr(shoppers, "SHORT_TTL", 60)
    monkeypatch.setattr(shoppers, "FIRST_UNITS", 100_000)
    monkeypatch.setattr(shoppers, "LAST", ())
    verdict = run_round(register(monkeypatch, hit), shared)
    assert verdict.violations == []
    assert set(verdict.vacuous) >= {"no unknown", "no expiries", "no last units"}


def test_servers_that_are_not_ready(
    server_name: str, shared: Shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was tried, so it is neither sound nor wrong."""

    async def begin(_: Single) -> None:
        raise GroupError("no server")

    async def strike(scene: Scene) -> Evidence:
        return {"never": 1}

    monkeypatch.setattr(Single, "begin", begin)
    verdict = run_round(register(monkeypatch, strike), shared)
    assert (verdict.not_begun, verdict.violations, verdict.operations) == ("no server", [], 0)
    assert not verdict.counts


def test_no_convergence(server_name: str, shared: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that does not come back."""

    async def strike(scene: Scene) -> Evidence:
        await scene.site.kill()
        scene.crowd.be_patient()
        return {"killed": 1}

    monkeypatch.setattr(shoppers, "PATIENCE_SECONDS", 0.5)
    verdict = run_round(register(monkeypatch, strike), shared)
    assert any(told.startswith("G4: no answer within") for told in verdict.violations), verdict


def test_a_loss_is_seen(server_name: str, shared: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same old backup, where nothing may be lost."""
    plan = register(monkeypatch, FAULTS["old_backup"].strike)
    verdict = run_round(plan, shared)
    assert any("I7" in told or "I11" in told for told in verdict.violations), verdict


def test_an_exception_that_nobody_takes(
    server_name: str, shared: Shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would only be logged."""

    async def strike(scene: Scene) -> Evidence:
        asyncio.get_running_loop().call_soon(lambda: 1 // 0)
        return {"done": 1}

    verdict = run_round(register(monkeypatch, strike), shared)
    assert any("ZeroDivisionError" in told for told in verdict.violations), verdict


def test_the_same_seed_makes_the_same_choices() -> None:
    """And every fault can be had by its name."""
    plans = [choose(seed, list(FAULTS), SHORT) for seed in range(500)]
    assert plans == [choose(seed, list(FAULTS), SHORT) for seed in range(500)]
    assert {name for plan in plans for name in plan.faults} == FAULTS.keys()
    assert {len(plan.faults) for plan in plans} == {1, 2}


def test_the_page_lists_every_fault() -> None:
    """Also those that the last long campaign did not have."""
    page = long_campaign.PAGE.read_text(encoding="utf-8")
    assert [name for name in FAULTS if f"`{name}`" not in page] == []
