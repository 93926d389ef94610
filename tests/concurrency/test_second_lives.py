"""A reservation's id is its key's: long after the record was forgotten, the same key makes the same id anew.
What is left of the first life must not touch the second.
"""

import pytest

from engine import Line, Movement, MovementKind, ReserveRequest, State, keys
from engine.audit import audit
from engine.commands import Commands
from engine.errors import InsufficientStock, InvalidRequest, StorageUnavailable, Unconfirmed
from engine.keys import partition_of
from tests.driver import RETENTION_SECONDS, Shop

LONG = 10 * RETENTION_SECONDS


async def receive(shop: Shop, units: int, *skus: str) -> None:
    for sku in skus:
        fact = Movement(f"receive {sku}", MovementKind.RECEIVE, sku, "s1", units)
        await shop.inventory.record(fact)


def ask(key: str, sku: str, units: int, *, ttl_seconds: int = 900) -> ReserveRequest:
    return ReserveRequest(key, [Line(sku, units, "s1")], ttl_seconds)


async def live_and_be_forgotten(shop: Shop, ttl_seconds: int, *lines: Line) -> str:
    held = await shop.inventory.reserve("cart", lines, ttl_seconds=ttl_seconds)
    await shop.inventory.release(held.id)
    shop.wait(RETENTION_SECONDS + 1)
    await shop.inventory.sweep()
    return held.id


async def test_the_second_life_ends_at_its_own_deadline(shop: Shop) -> None:
    """The first life's entry stands at a later deadline; the second life's counts."""
    await receive(shop, 1, "mug")
    await live_and_be_forgotten(shop, LONG, Line("mug", 1, "s1"))
    await shop.inventory.reserve("cart", [Line("mug", 1, "s1")], ttl_seconds=5)
    shop.wait(6)
    assert await shop.inventory.sweep() == 1
    assert (await shop.inventory.availability("mug")).available == 1
    assert not (await audit(shop.inventory)).violations


async def test_an_entry_that_is_done_with_does_not_take_the_new_one_along(shop: Shop) -> None:
    """One call files the second life's deadline and strikes out the first life's, which looks the same."""
    await receive(shop, 5, "mug")
    await live_and_be_forgotten(shop, RETENTION_SECONDS + 5, Line("mug", 1, "s1"))
    shop.wait(10)
    # The first is filed, the second is short and has what is overdue given back: both in one call.
    again, short = await shop.inventory.reserve_many(
        [ask("cart", "mug", 1, ttl_seconds=5), ask("other", "mug", 9)]
    )
    assert isinstance(short, InsufficientStock)
    assert again.state is State.HELD  # type: ignore[union-attr] - it is no exception
    shop.wait(6)
    assert await shop.inventory.sweep() == 1
    assert not (await audit(shop.inventory)).violations


async def test_lines_of_the_first_life_choose_nothing_of_the_second(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process made the second life; who remembers the first one asks before it chooses."""
    clock = [0.0]
    monkeypatch.setattr("engine.reservations.monotonic", lambda: clock[0])
    await receive(shop, 9, "mug", "pot")
    inventory, other = shop.inventory, await shop.another_inventory()
    first = await inventory.reserve("cart", [Line("mug", 1, "s1"), Line("pot", 2, "s1")], ttl_seconds=5)
    clock[0] += RETENTION_SECONDS + 20
    shop.wait(6)
    await other.sweep()
    shop.wait(RETENTION_SECONDS + 1)
    await other.sweep()
    second = await other.reserve("cart", [Line("mug", 5, "s1")])
    assert second.id == first.id
    with pytest.raises(InvalidRequest):
        await inventory.commit(first.id, lines=[Line("pot", 1, "s1")])
    committed = await inventory.commit(first.id)
    assert [(line.sku, line.committed) for line in committed.lines] == [("mug", 5)]
    await other.close()


async def test_a_repeat_does_not_count_again_while_the_hold_lasts(shop: Shop) -> None:
    """The memory of a partial commit outlives the retention where the hold was extended meanwhile."""
    await receive(shop, 10, "mug")
    held = await shop.inventory.reserve("cart", [Line("mug", 10, "s1")], ttl_seconds=5)
    part = [Line("mug", 2, "s1")]
    await shop.inventory.commit(held.id, lines=part, remainder="keep", op_id="part")
    await shop.inventory.extend(held.id, LONG)
    for _ in range(3):
        shop.wait(RETENTION_SECONDS + 6)
        await shop.inventory.sweep()
        again = await shop.inventory.commit(held.id, lines=part, remainder="keep", op_id="part")
        assert (again.replayed, again.lines[0].committed) == (True, 2)
    shop.wait(LONG)
    await shop.inventory.sweep()
    shop.wait(RETENTION_SECONDS + 1)
    await shop.inventory.sweep()
    assert not (await audit(shop.inventory)).violations
    assert shop.control.hlen("inv:{0}:ops") == 1  # the committed part is still on the books


async def test_what_was_done_in_a_new_epoch_is_not_denied(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a process knew is of the epoch before, so it reads the record for its answer. If that fails,
    nobody may hear that nothing happened.
    """
    await receive(shop, 5, "mug")
    held = await shop.inventory.reserve("cart", [Line("mug", 1, "s1")])
    partition = partition_of("mug", shop.partitions)
    shop.control.hdel(keys.meta(partition), "run")

    def find(_: Commands, __: bytes) -> None:
        raise StorageUnavailable("gone")

    with monkeypatch.context() as patched:
        patched.setattr(Commands, "find", find)
        with pytest.raises(Unconfirmed):
            await shop.inventory.commit(held.id)
    assert (await shop.inventory.reservation(held.id)).state is State.COMMITTED
    again = await shop.inventory.commit(held.id)
    assert (again.state, again.replayed, again.lines[0].committed) == (State.COMMITTED, True, 1)
