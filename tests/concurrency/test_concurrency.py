"""Many at once: the last unit, equal ids, lost answers, and books that still add up."""

import asyncio
import gc
import json
import sys
from collections import Counter
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import Inventory, Line, Movement, MovementKind, Reservation, State, Unconfirmed, keys
from engine.errors import InsufficientStock, StorageUnavailable
from tests.concurrency.cutter import Cutter
from tests.concurrency.shopper import PLACES, Shopper
from tests.driver import Shop, fact, open_shop, reserve, send_together, skus_in
from tests.model import Call, Refusal, Verb
from tests.servers import Control, Server, node_of

ROOT = Path(__file__).parents[2]
RECEIVED = 150


async def receive(inventory: Inventory, sku: str, units: int, place: str = "s1") -> None:
    await inventory.record(Movement(f"receive {sku} {place}", MovementKind.RECEIVE, sku, place, units))


async def held_units(shop: Shop, sku: str) -> int:
    (position,) = await shop.inventory.stock(sku)
    return position.held


async def test_two_hundred_want_the_last_unit(shop_of_any_size: Shop) -> None:
    """Exactly one of 200 concurrent buyers gets it; all others are refused for lack of stock."""
    shop = shop_of_any_size
    await receive(shop.inventory, "mug", 1)
    several = [shop.inventory, await shop.another_inventory(), await shop.another_inventory()]
    answers = await asyncio.gather(
        *(several[n % 3].reserve(f"cart {n}", [Line("mug", 1, "s1")]) for n in range(200)),
        return_exceptions=True,
    )
    assert Counter(map(type, answers)) == {Reservation: 1, InsufficientStock: 199}
    assert await held_units(shop, "mug") == 1
    for other in several[1:]:
        await other.close()


async def test_sixty_equal_requests(shop_of_any_size: Shop) -> None:
    """Sixty requests under one id make one reservation, and all are answered alike."""
    shop = shop_of_any_size
    await receive(shop.inventory, "mug", 100)
    several = [shop.inventory, await shop.another_inventory()]
    answers = await asyncio.gather(
        *(several[n % 2].reserve("cart", [Line("mug", 2, "s1")]) for n in range(60))
    )
    assert Counter(answer.replayed for answer in answers) == {True: 59, False: 1}
    told = {(a.id, a.state, a.version, a.created_ms, a.expires_ms, tuple(a.lines)) for a in answers}
    assert len(told) == 1
    assert await held_units(shop, "mug") == 2
    await several[1].close()


@pytest.mark.parametrize("ttls", [(20, 20), (20, 30, 40), (40, 30, 20), (40, 40, 40, 40)])
async def test_extended_many_times_in_one_batch(shop: Shop, ttls: tuple[int, ...]) -> None:
    """However often a hold is extended at one moment, its units come back once, and at the last deadline."""
    await receive(shop.inventory, "mug", 10)
    held = await shop.inventory.reserve("cart", [Line("mug", 3, "s1")], ttl_seconds=5)
    await asyncio.gather(*(shop.inventory.extend(held.id, ttl) for ttl in ttls))
    shop.wait(6)
    for _ in range(max(ttls) - 7):
        assert await shop.inventory.sweep() == 0
        shop.wait(1)
        assert await held_units(shop, "mug") == 3
    shop.wait(1)
    assert await shop.inventory.sweep() == 1
    assert await held_units(shop, "mug") == 0


async def check_conservation(shop: Shop, skus: list[str], made: list[str]) -> None:
    """Counters are the sums over reservations, and no unit was promised or sold twice."""
    held, allocated, fulfilled = Counter[object](), Counter[object](), Counter[object]()
    for public_id in made:
        for line in (await shop.inventory.reservation(public_id)).lines:
            held[line.sku, line.location] += line.held
            allocated[line.sku, line.location] += line.committed
            fulfilled[line.sku, line.location] += line.fulfilled
    positions = shop.read_books(tuple(skus)).positions
    assert len(positions) == len(skus) * len(PLACES)
    for place, position in positions.items():
        assert position.held == held[place]
        assert position.allocated == allocated[place]
        assert position.on_hand == RECEIVED - fulfilled[place]
        assert position.held + position.allocated <= position.on_hand


async def watch(shop: Shop, skus: list[str]) -> int:
    """Looks at the books again and again: nothing is ever negative or over-promised."""
    looks = 0
    while True:
        for position in shop.read_books(tuple(skus)).positions.values():
            assert min(position.held, position.allocated, position.free) >= 0
        looks += 1
        await asyncio.sleep(0)


async def open_busy_shop(shop: Shop) -> list[str]:
    names = skus_in(shop.partitions - 1, shop.partitions)
    skus = [next(names) for _ in range(4)]
    for sku in skus:
        for place in PLACES:
            await receive(shop.inventory, sku, RECEIVED, place)
    return skus


async def test_mixed_baskets_from_many_sides(shop_of_any_size: Shop) -> None:
    """Shoppers on several connections and in another process, with duplicates, leave books that add up."""
    shop = shop_of_any_size
    skus = await open_busy_shop(shop)
    elsewhere = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.concurrency.shopper",
        *(shop.url, str(shop.partitions), "far", "200", *skus),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    shoppers = [Shopper(await shop.another_inventory(), skus, f"near {n}") for n in range(3)]
    watcher = asyncio.ensure_future(watch(shop, skus))
    await asyncio.gather(*(shopper.go(200) for shopper in shoppers))
    printed, _ = await elsewhere.communicate()
    assert elsewhere.returncode == 0
    assert not watcher.done(), watcher.exception()
    watcher.cancel()
    far = json.loads(printed)
    seen = sum((shopper.seen for shopper in shoppers), Counter[str](far["seen"]))
    assert seen["replayed"] > 100
    assert seen["insufficient_stock"] > 100
    assert far["held"]
    await check_conservation(shop, skus, [*far["held"], *(r for s in shoppers for r in s.held)])
    for shopper in shoppers:
        await shopper.inventory.close()


async def test_connections_are_killed_under_load(shop: Shop, control: Control) -> None:
    """Shoppers who repeat what was left unknown lose nothing and get nothing twice."""
    skus = await open_busy_shop(shop)
    shoppers = [Shopper(await shop.another_inventory(), skus, f"near {n}") for n in range(2)]
    node = node_of(control, keys.meta(0))

    async def kill() -> None:
        answered = 0
        while True:
            # To ask Sentinels for the primary takes longer than to connect to it, and a busy machine is slow:
            # everybody gets so far.
            now = sum(
                one.seen.total() - one.seen["unconfirmed"] - one.seen["unavailable"] for one in shoppers
            )
            if now > answered and all(shopper.inventory.is_connected for shopper in shoppers):
                answered = now
                node.client_kill_filter(_type="normal", skipme=True)
            await asyncio.sleep(0.03)

    killer = asyncio.ensure_future(kill())
    seen = Counter[str]()
    for _ in range(20):
        # A kill bites only while answers are under way: go on until one did.
        await asyncio.gather(*(shopper.go(250) for shopper in shoppers))
        seen = sum((shopper.seen for shopper in shoppers), Counter[str]())
        if seen["unconfirmed"]:
            break
    killer.cancel()
    for shopper in shoppers:
        await shopper.inventory.close()
    assert seen["unconfirmed"], f"no fault bit: {seen}"
    looking = await shop.another_inventory()
    await shop.inventory.close()
    shop.inventory = looking
    await check_conservation(shop, skus, [r for s in shoppers for r in s.held])


@pytest.mark.one_server
async def test_an_answer_is_lost_after_the_deed(shop: Shop, server: Server, tmp_path: Path) -> None:
    """The caller is told that the outcome is unknown; the repeat finds the reservation that was made."""
    await receive(shop.inventory, "mug", 5)
    path = server.url.removeprefix("unix://")
    async with Cutter(path, tmp_path / "cut.sock") as cutter:
        inventory = await shop.another_inventory(cutter.url)
        cutter.lose_next_answer()
        with pytest.raises(Unconfirmed):
            await inventory.reserve("cart", [Line("mug", 2, "s1")])
        assert cutter.lost == 1
        assert await held_units(shop, "mug") == 2
        await wait_until_connected(inventory)
        again = await inventory.reserve("cart", [Line("mug", 2, "s1")])
        assert again.replayed
        # From here on its lines are known: the commit is one call.
        await inventory.extend(again.id, 1)
        cutter.lose_next_answer()
        with pytest.raises(Unconfirmed):
            await inventory.commit(again.id, op_id="order")
        await wait_until_connected(inventory)
        committed = await inventory.commit(again.id, op_id="order")
        assert (committed.state, committed.replayed) == (State.COMMITTED, True)
        await inventory.close()
    assert await held_units(shop, "mug") == 0


async def test_a_connection_is_lost_before_the_deed(shop: Shop, control: Control) -> None:
    """The caller is told that the outcome is unknown; the repeat then makes the reservation."""
    await receive(shop.inventory, "mug", 5)
    node = node_of(control, keys.meta(0))
    node.client_pause(60_000, all=False)
    doomed = asyncio.ensure_future(shop.inventory.reserve("cart", [Line("mug", 2, "s1")]))
    async with asyncio.timeout(5):
        while not any("b" in client["flags"] for client in node.client_list()):  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.005)
    node.client_kill_filter(_type="normal", skipme=True)
    with pytest.raises(Unconfirmed):
        await doomed
    node.client_unpause()
    await wait_until_connected(shop.inventory)
    assert await held_units(shop, "mug") == 0
    held = await shop.inventory.reserve("cart", [Line("mug", 2, "s1")])
    assert not held.replayed
    assert await held_units(shop, "mug") == 2


async def wait_until_connected(inventory: Inventory) -> None:
    async with asyncio.timeout(10):
        while not inventory.is_connected:  # noqa: ASYNC110 - nor does the engine
            await asyncio.sleep(0.005)


async def test_callers_who_hang_up(shop: Shop) -> None:
    """A caller who is cancelled in the middle disturbs no other, and its request took effect once at most."""
    await receive(shop.inventory, "mug", 1000)

    def ask(number: int) -> "asyncio.Task[Reservation]":
        return asyncio.ensure_future(shop.inventory.reserve(f"cart {number}", [Line("mug", 1, "s1")]))

    tasks = [ask(number) for number in range(120)]
    for _ in range(2):
        await asyncio.sleep(0)
    for task in tasks[::3]:
        task.cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert Counter(map(type, answers)) == {Reservation: 80, asyncio.CancelledError: 40}
    assert len({a.id for a in answers if isinstance(a, Reservation)}) == 80
    again = await asyncio.gather(*map(ask, range(120)))
    assert await held_units(shop, "mug") == 120
    assert {a.id for a in answers if isinstance(a, Reservation)} <= {a.id for a in again if a.replayed}


def is_contended(call: Call, calls: list[Call]) -> bool:
    """Whether another request had the same key and other lines."""
    return any(other.key == call.key and other.lines != call.lines for other in calls)


async def test_a_sweep_that_fails_when_nobody_waits(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asked for it has hung up: its failure is nobody's, and no complaint is made."""
    faults: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
    has_begun, may_fail = asyncio.Event(), asyncio.Event()

    async def fail(_: object) -> int:
        has_begun.set()
        await may_fail.wait()
        raise StorageUnavailable("gone")

    monkeypatch.setattr("engine.inventory.sweep_all", fail)
    asking = asyncio.ensure_future(shop.inventory._sweep(0))
    await has_begun.wait()
    asking.cancel()
    await asyncio.wait([asking])
    may_fail.set()
    await asyncio.wait(list(shop.inventory._sweeps.values()))
    shop.inventory._sweeps.clear()
    del asking
    gc.collect()
    assert faults == []


requests = st.lists(
    st.tuples(
        st.sampled_from(("reserve", "reserve", "reserve", "sale", "receive", "commit", "release", "cancel")),
        st.integers(0, 9),
        st.lists(
            st.tuples(st.integers(0, 1), st.integers(1, 4), st.sampled_from(PLACES)), min_size=1, max_size=3
        ),
    ),
    min_size=2,
    max_size=30,
)


def test_a_batch_is_some_sequence(  # noqa: C901 - a scenario is told in one piece
    server: Server, control: Control, partitions: int, runner: asyncio.Runner
) -> None:
    """The answers to concurrent requests are those of the same requests one after another, in the order of
    their versions; each refusal was right on the books that it names.
    """
    names = skus_in(partitions - 1, partitions)
    skus = (next(names), next(names))

    async def submit(wanted: list[tuple[str, int, list[tuple[int, int, str]]]]) -> None:
        shop = await open_shop(server.url, control, partitions)
        model = shop.model
        for sku in skus:
            for place in PLACES:
                call = Call("receive", f"{sku} {place}", ((sku, 6, place),))
                assert await shop.send(call) == model.apply(call)
        for number in range(3):
            call = reserve(f"first {number}", (skus[0], 1, PLACES[0]))
            assert await shop.send(call) == model.apply(call)
        calls = []
        for number, (verb, pick, lines) in enumerate(wanted):
            basket = tuple((skus[index], units, place) for index, units, place in lines)
            if verb == "reserve":
                calls.append(reserve(f"key {pick}", *basket))
            elif verb in {"sale", "receive"}:
                calls.append(fact(verb, f"fact {number}", *basket[0]))
            else:
                calls.append(Call(cast("Verb", verb), None, None, f"first {pick % 3}"))
        answers = await send_together(shop, calls)
        await shop.inventory.close()

        def place_in_order(index: int) -> tuple[int, int, int]:
            # A repeat names an old version, a mismatch none: both are right once their original is there.
            answer = answers[index]
            if isinstance(answer, Refusal):
                return (10**9 if answer.version is None else answer.version, 1, index)
            return (10**9, 2, index) if answer.replayed else (answer.version, 0, index)

        order = sorted(range(len(calls)), key=place_in_order)
        for index in order:
            is_late = place_in_order(index)[0] == 10**9
            mismatch = Refusal("idempotency_mismatch")
            if partitions > 1 and answers[index] == mismatch and is_contended(calls[index], calls):
                # The key was bound to the other content, of which nothing may have come in the end.
                continue
            expected = model.apply(calls[index])
            if is_late and calls[index].verb != "reserve":
                # What a repeat tells of the reservation may have changed since.
                continue
            assert answers[index] == expected, calls[index]
        shop.compare_books(skus)
        shop.compare_ledgers()

    @settings(max_examples=25)
    @given(requests)
    def check(wanted: list[tuple[str, int, list[tuple[int, int, str]]]]) -> None:
        runner.run(submit(wanted))

    check()
