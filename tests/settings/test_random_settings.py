"""Random settings, on a real server and in the model at once, for every number of partitions."""

import asyncio
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import ClassVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

import engine
from engine import (
    BincardError,
    Channel,
    Component,
    InvalidRequest,
    Inventory,
    Item,
    Location,
    LocationKind,
    Movement,
    MovementKind,
    OutcomeError,
    Pool,
)
from engine.audit import audit
from engine.setting_forms import SettingClass, encode_setting, names_of
from tests.servers import Control, Server
from tests.settings.conftest import are_alike
from tests.settings.model import SettingsModel

WORDS = ("location", "pool", "channel", "item")
names = st.sampled_from("abc")
some_names = st.lists(names, min_size=1, max_size=3, unique=True)


def make(word: str, name: str, named: tuple[str, ...]) -> Location | Pool | Channel | Item:
    if word == "location":
        return Location(name, LocationKind.STORE)
    if word == "item":
        return Item(name, components=tuple(Component(part, 1) for part in named))
    return Pool(name, named) if word == "pool" else Channel(name, named)


class SettingsMachine(RuleBasedStateMachine):
    """Every request goes to the engine and to the model; answers, partitions and snapshots must be equal."""

    open_one: Callable[[], Inventory]
    run: Callable[..., object]
    seen: ClassVar[Counter[str]]

    def __init__(self) -> None:
        super().__init__()
        self.inventory = type(self).open_one()
        self.model = SettingsModel()
        self.number = 0
        self.half_saved = set[str]()

    def compare(self, request: object, expected: str) -> None:
        word = type(self).run(answered(request))
        self.seen[expected] += 1
        assert word == expected

    @initialize()
    def open(self) -> None:
        """So that not all is refused for want of a beginning."""
        for word, named in (("location", ()), ("pool", ("a",)), ("channel", ("a",)), ("item", ("b",))):
            for name in "ab" if word == "location" else "a":
                self.save_one(word, name, named)

    @rule(word=st.sampled_from(WORDS), name=names, named=some_names, plain=st.booleans())
    def save(self, word: str, name: str, named: list[str], plain: bool) -> None:
        chosen = () if word == "location" or (word == "item" and plain) else tuple(named)
        self.save_one(word, name, chosen)

    def save_one(self, word: str, name: str, named: tuple[str, ...]) -> None:
        request = getattr(self.inventory, f"save_{word}")(make(word, name, named))
        self.compare(request, self.model.save(word, name, named))

    @rule(word=st.sampled_from(WORDS), name=names)
    def delete(self, word: str, name: str) -> None:
        self.compare(getattr(self.inventory, f"delete_{word}")(name), self.model.delete(word, name))

    @rule(name=names, part=names)
    def save_kit(self, name: str, part: str) -> None:
        self.save_one("item", name, (part,))

    @rule(sku=names, location=names)
    def receive(self, sku: str, location: str) -> None:
        if location in self.half_saved:
            # Who asked for it was never answered: until it is everywhere it may be refused as unknown.
            type(self).run(self.inventory.setting_store.align())
        self.number += 1
        movement = Movement(f"m{self.number}", MovementKind.RECEIVE, sku, location, 1)
        self.compare(self.inventory.record(movement), self.model.stock(sku, location))

    @rule(name=names)
    def save_and_go(self, name: str) -> None:
        """A save whose process is gone once partition 0 has decided."""
        packed = encode_setting(make("location", name, ()))
        type(self).run(self.decide(name, packed))
        self.model.save("location", name, ())
        self.half_saved.add(name)

    async def decide(self, name: str, packed: bytes) -> None:
        await self.inventory.dataset.commands[0].save_setting(SettingClass.LOCATION, name, packed)
        self.inventory.settings.expire()

    def teardown(self) -> None:
        """A sweep brings everything everywhere; then all is compared."""
        type(self).run(self.end())

    async def end(self) -> None:
        inventory = self.inventory
        await inventory.sweep()
        assert await are_alike(inventory)
        known = await inventory.settings.latest()
        assert known.number == self.model.number
        assert {
            word: {name: names_of(setting) for name, setting in known.stored[kind].items()}
            for word, kind in zip(WORDS, SettingClass, strict=False)
        } == self.model.stored
        report = await audit(inventory)
        assert report.is_clean, report
        await inventory.close()


async def answered(request: object) -> str:
    try:
        await request  # type: ignore[misc] - a coroutine of some method
    except InvalidRequest:
        return "invalid_request"
    except OutcomeError as refusal:
        return refusal.outcome
    except BincardError as error:
        return repr(error)
    return "saved"


def test_random_settings(server: Server, control: Control, partitions: int, runner: asyncio.Runner) -> None:
    def open_one() -> Inventory:
        control.flushall()
        return runner.run(engine.connect(server.url, partitions=partitions))

    machine = type(
        "Machine",
        (SettingsMachine,),
        {"open_one": staticmethod(open_one), "run": staticmethod(runner.run), "seen": Counter[str]()},
    )
    fewer = settings(max_examples=settings.default.max_examples // 2, stateful_step_count=40)
    run_state_machine_as_test(machine, settings=fewer)
    wanted = {"saved", "invalid_request", "location_not_found", "pool_not_found", "item_not_found"}
    wanted |= {"location_in_use", "pool_in_use", "item_in_use", "channel_not_found"}
    assert wanted <= set(machine.seen), machine.seen  # type: ignore[attr-defined] - made above


@pytest.mark.parametrize("levels", [4, 5])
def test_the_model_counts_levels(levels: int) -> None:
    model = SettingsModel()
    chain = "abcdefg"[: levels + 1]
    answers = [model.save("item", kit, (part,)) for kit, part in pairwise(chain)]
    assert answers == ["saved"] * 4 + ["invalid_request"] * (levels - 4)
    assert model.save("item", "d", ("a",)) == "invalid_request"
