"""A basket over several partitions that is sent again, by whoever did not hear of the first attempt."""

from collections.abc import Iterator, Sequence

import pytest

from engine import Inventory, Line, Movement, MovementKind, Pool, Reservation
from engine.audit import audit
from engine.errors import InsufficientStock
from engine.sourcing_plan import Rules, Wanted
from tests.concurrency.dying import Death, live_until
from tests.driver import skus_in
from tests.sourcing.conftest import PLACES

MOST_REQUESTS = 40
RULES = Rules(pool="all")


@pytest.fixture
async def pairs(inventory: Inventory) -> Iterator[tuple[str, str]]:
    """Two SKUs at a time, which nobody has used, in different partitions where there are several."""
    await inventory.save_pool(Pool("all", PLACES))
    return zip(skus_in(0, 4), skus_in(2, 4), strict=True)


async def stock(inventory: Inventory, sku: str, place: str, units: int) -> None:
    await inventory.record(Movement(f"{sku} to {place}", MovementKind.RECEIVE, sku, place, units))


async def expect_clean(inventory: Inventory) -> None:
    await inventory.baskets.close()
    report = await audit(inventory)
    assert report.is_clean, (report.differences, report.violations, report.notes)


async def source_until(
    inventory: Inventory, nth: int, death: Death, key: str, lines: Sequence[Wanted]
) -> Reservation | None:
    """A first attempt, of a process that dies at its n-th request; None where it died."""

    async def act(process: Inventory) -> Reservation:
        return await process.source(key, lines, rules=RULES)

    return await live_until(inventory, nth, death, act)


@pytest.mark.parametrize("death", Death)
async def test_the_last_units_are_not_refused_to_who_has_them(
    inventory: Inventory, pairs: Iterator[tuple[str, str]], death: Death
) -> None:
    """What a dead attempt left held is the repeated one's own."""
    for nth in range(1, MOST_REQUESTS):
        one, other = next(pairs)
        for sku in (one, other):
            await stock(inventory, sku, "a", 1)
            await stock(inventory, sku, "b", 1)
        lines, key = [Wanted(one, 2), Wanted(other, 2)], f"all {nth}"
        lived = await source_until(inventory, nth, death, key, lines)
        repeated = await inventory.source(key, lines, rules=RULES)
        assert {(line.sku, line.location) for line in repeated.lines} == {
            (sku, place) for sku in (one, other) for place in ("a", "b")
        }
        with pytest.raises(InsufficientStock):
            await inventory.reserve(f"more {nth}", [Line(one, 1, "a")])
        if lived is not None:
            break
    else:
        pytest.fail("it never ends")
    await expect_clean(inventory)


@pytest.mark.parametrize("death", Death)
async def test_a_repeat_goes_on_with_the_places_that_were_chosen(
    inventory: Inventory, pairs: Iterator[tuple[str, str]], death: Death
) -> None:
    """Meanwhile somebody took what was free at some of them: a basket has the places that its parts hold."""
    for nth in range(1, MOST_REQUESTS):
        one, other = next(pairs)
        for sku in (one, other):
            for place in PLACES[:3]:
                await stock(inventory, sku, place, 3)
        lines, key = [Wanted(one, 2), Wanted(other, 2)], f"some {nth}"
        lived = await source_until(inventory, nth, death, key, lines)
        for sku in (one, other):
            shown = (await inventory.availability(sku)).locations
            room = {place.location: place.available for place in shown}
            if room["a"]:
                await inventory.reserve(f"took {sku}", [Line(sku, room["a"], "a")])
        repeated = await inventory.source(key, lines, rules=RULES)
        await inventory.baskets.close()
        await inventory.commit(repeated.id)
        await expect_clean(inventory)
        if lived is not None:
            break
    else:
        pytest.fail("it never ends")


async def test_sent_twice_at_once_for_the_last_units(
    inventory: Inventory, pairs: Iterator[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second sees neither the first nor units that are free: it is the same basket."""
    one, other = next(pairs)
    for sku in (one, other):
        await stock(inventory, sku, "a", 1)
    lines, choose, first = [Wanted(one, 1), Wanted(other, 1)], Inventory._choose_lines, list[Reservation]()

    async def choose_late(self: Inventory, *asked: object) -> object:
        if not first:
            monkeypatch.undo()
            first.append(await inventory.source("k", lines, rules=RULES))
        return await choose(self, *asked)  # type: ignore[arg-type]

    monkeypatch.setattr(Inventory, "_choose_lines", choose_late)
    second = await inventory.source("k", lines, rules=RULES)
    assert len(first) == (inventory.dataset.partitions > 1), "one script chooses where there is one partition"
    for one_more in (*first, await inventory.source("k", lines, rules=RULES)):
        assert (one_more.id, one_more.lines) == (second.id, second.lines)
    assert second.replayed == bool(first)
    await expect_clean(inventory)
