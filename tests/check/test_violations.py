"""Each invariant that a history can show, broken on purpose: the checker names it, and what shows it."""

from collections.abc import Callable
from dataclasses import replace as with_fields
from pathlib import Path

import pytest
from msgspec.structs import replace

from engine import State
from engine.check import Report
from engine.errors import (
    AlreadyCommitted,
    IdempotencyMismatch,
    InsufficientStock,
    LocationNotFound,
    ReservationExpired,
    ReservationNotFound,
    SkuNotFound,
)
from engine.types import Shortage
from tests.check.shop import HistoryShop, id_of, with_units
from tests.model import Call, Position

Plant = Callable[[HistoryShop], None]
PLANTED: dict[str, tuple[str, Plant]] = {}
LATE = 12


def planted(invariant: str) -> Callable[[Plant], Plant]:
    """A fault, and the invariant that it breaks."""

    def keep(plant: Plant) -> Plant:
        PLANTED[plant.__name__] = invariant, plant
        return plant

    return keep


def give(shop: HistoryShop, units: int) -> None:
    """Changes what the model has free behind its back."""
    position = shop.model.positions["mug", "s1"]
    position.policy = with_fields(position.policy, unsellable=position.policy.unsellable - units)


@planted("I1")
def two_effects_have_one_version(shop: HistoryShop) -> None:
    shop.reserve("a", 1)
    shop.reserve("b", 1, change=lambda told: replace(told, version="1.3"))


@planted("I2")
def a_reserve_forgets_its_id(shop: HistoryShop) -> None:
    shop.reserve("a", 1)
    del shop.model.reservations["a"]
    shop.reserve("a", 1)


@planted("I2")
def a_fact_forgets_its_id(shop: HistoryShop) -> None:
    shop.model.facts.clear()
    shop.receive("mug", 5)


@planted("I2")
def a_verb_forgets_its_id(shop: HistoryShop) -> None:
    shop.reserve("a", 4)
    for _ in range(2):
        shop.verb("commit", "a", "pay", lines=(("mug", 1, "s1"),), keep=True)
        shop.model.requests.clear()


@planted("I2")
def a_replay_has_another_version(shop: HistoryShop) -> None:
    shop.reserve("a", 1)
    shop.verb("release", "a")
    shop.reserve("a", 1, change=lambda told: replace(told, version="1.4"))


@planted("I2")
def a_replay_has_another_answer(shop: HistoryShop) -> None:
    shop.receive("mug", 5, "s1")
    shop.do(
        Call("receive", "receive mug s1", (("mug", 5, "s1"),)),
        change=lambda told: replace(told, on_hand=told.on_hand + 1),
    )


@planted("I2")
def other_content_is_called_a_replay(shop: HistoryShop) -> None:
    first = shop.reserve("a", 1)
    shop.reserve("a", 1, ttl_seconds=5, change=lambda _: replace(first, replayed=True))


@planted("I3")
def a_unit_is_oversold(shop: HistoryShop) -> None:
    shop.reserve("a", 5)
    give(shop, 1)
    shop.reserve("b", 1)


@planted("I3")
def a_unit_is_oversold_to_two_at_once(shop: HistoryShop) -> None:
    shop.reserve("a", 4, before=3, after=5)
    give(shop, 1)
    shop.reserve("b", 2, before=3, after=3)


@planted("I3")
def a_retake_oversells(shop: HistoryShop) -> None:
    shop.reserve("a", 3, ttl_seconds=1)
    shop.wait(5)
    shop.model.give_back(0)
    shop.ask_reservation("a")
    shop.reserve("b", 3)
    give(shop, 1)
    shop.verb("commit", "a", retake=True)


@planted("I3")
def a_released_unit_is_sold_before_it_is_back(shop: HistoryShop) -> None:
    shop.reserve("a", 5)
    give(shop, 5)
    shop.reserve("b", 5)
    give(shop, -5)
    shop.verb("release", "a")


@planted("I3")
def a_broken_promise_is_not_named(shop: HistoryShop) -> None:
    shop.reserve("a", 4)
    shop.do(Call("sale", "till", (("mug", 3, "s1"),)), change=lambda told: replace(told, uncovered=[]))


@planted("I4")
def availability_is_one_off(shop: HistoryShop) -> None:
    shop.reserve("a", 2)
    give(shop, -1)
    shop.ask_availability()


@planted("I4")
def availability_does_not_add_up(shop: HistoryShop) -> None:
    shop.ask_availability(change=lambda told: replace(told, available=told.available + 1))


@planted("I4")
def a_position_is_not_shown(shop: HistoryShop) -> None:
    shop.ask_availability(change=lambda told: replace(told, available=0, locations=[]))


@planted("I4")
def a_stocked_sku_is_not_found(shop: HistoryShop) -> None:
    shop.ask_availability(change=lambda told: SkuNotFound("", version=told.version))


@planted("I4")
def a_fact_counts_twice(shop: HistoryShop) -> None:
    shop.model.book.come(("mug", "s1"), shop.model.now_ms, 2, "more")
    shop.do(Call("receive", "more", (("mug", 2, "s1"),)))


@planted("I4")
def a_release_is_not_given_back(shop: HistoryShop) -> None:
    shop.reserve("a", 2)
    shop.verb("release", "a")
    shop.model.positions["mug", "s1"].held += 2
    shop.ask_stock()


@planted("I4")
def a_lapsed_hold_is_never_given_back(shop: HistoryShop) -> None:
    shop.reserve("a", 2, ttl_seconds=1)
    shop.wait(5)
    shop.model.give_back(0)
    shop.model.positions["mug", "s1"].held += 2
    shop.ask_reservation("a")
    shop.ask_availability()


@planted("I4")
def fulfilled_goods_are_still_there(shop: HistoryShop) -> None:
    shop.reserve("a", 2)
    shop.verb("commit", "a", fulfil=True)
    shop.ask_stock(change=lambda row: replace(row, on_hand=5))


@planted("I5")
def goods_leave_twice(shop: HistoryShop) -> None:
    shop.reserve("a", 4)
    shop.verb("commit", "a", lines=(("mug", 2, "s1"),))
    shop.verb("fulfil", "a")
    shop.model.reservations["a"].shares["mug", "s1"].committed = 2
    shop.model.reservations["a"].shares["mug", "s1"].released = 0
    shop.verb("fulfil", "a", "again", lines=(("mug", 1, "s1"),))


@planted("I5")
def parts_are_not_the_whole(shop: HistoryShop) -> None:
    shop.reserve("a", 2)
    shop.verb("commit", "a", change=lambda told: with_units(told, committed=1))


@planted("I5")
def a_released_reservation_is_committed(shop: HistoryShop) -> None:
    shop.reserve("a", 2)
    shop.verb("release", "a", change=None)
    share = shop.model.reservations["a"].shares["mug", "s1"]
    share.held, share.released = 2, 0
    shop.verb("commit", "a")


@planted("I6")
def a_reservation_reads_otherwise(shop: HistoryShop) -> None:
    shop.reserve("a", 2)
    shop.verb("commit", "a")
    shop.ask_reservation(
        "a", change=lambda told: with_units(replace(told, state=State.FULFILLED), committed=0, fulfilled=2)
    )


@planted("I6")
def a_deadline_is_not_as_asked(shop: HistoryShop) -> None:
    shop.reserve("a", 2, change=lambda told: replace(told, expires_ms=told.expires_ms - 1))


@planted("I7")
def an_acknowledged_reservation_is_lost(shop: HistoryShop) -> None:
    shop.reserve("a", 1)
    del shop.model.reservations["a"]
    shop.ask_reservation("a")


@planted("I7")
def a_commit_finds_nothing(shop: HistoryShop) -> None:
    shop.reserve("a", 1)
    shop.verb("commit", "a", change=lambda _: ReservationNotFound(""))


@planted("I7")
def the_server_comes_back_with_an_old_backup(shop: HistoryShop) -> None:
    shop.reserve("a", 1)
    shop.reserve("b", 1)
    shop.epoch, shop.model.sequences[0] = 2, 3
    shop.reserve("c", 1)


@planted("I8")
def a_hold_lapses_too_early(shop: HistoryShop) -> None:
    shop.reserve("a", 2, ttl_seconds=60)
    shop.model.reservations["a"].deadline_ms = 0
    shop.wait(2)
    shop.model.give_back(0)
    shop.ask_reservation("a")


@planted("I8")
def a_hold_is_refused_as_lapsed_too_early(shop: HistoryShop) -> None:
    shop.reserve("a", 2, ttl_seconds=60)
    shop.verb("commit", "a", change=lambda told: ReservationExpired("", version="1.4"))


@planted("I8")
def an_extension_shortens(shop: HistoryShop) -> None:
    shop.reserve("a", 2, ttl_seconds=60)
    shop.verb(
        "extend", "a", ttl_seconds=5, change=lambda told: replace(told, expires_ms=told.expires_ms - 40_000)
    )


@planted("I9")
def what_fits_is_refused(shop: HistoryShop) -> None:
    shop.reserve("a", 2)
    give(shop, -1)
    shop.reserve("b", 3)


@planted("I9")
def a_lapsed_hold_keeps_others_out(shop: HistoryShop) -> None:
    shop.reserve("a", 5, ttl_seconds=1)
    shop.wait(5)
    shop.model.give_back(0)
    shop.ask_reservation("a")
    shop.model.positions["mug", "s1"].held = 5
    shop.reserve("b", 1)


@planted("I9")
def a_shortage_is_named_wrongly(shop: HistoryShop) -> None:
    refused = InsufficientStock("", [Shortage(0, "mug", "s1", 9, 4)], version="1.2")
    shop.reserve("a", 9, change=lambda _: refused)


@planted("I9")
def a_held_reservation_is_called_committed(shop: HistoryShop) -> None:
    shop.reserve("a", 1)
    shop.verb("release", "a", change=lambda told: AlreadyCommitted("", version="1.3"))


@planted("I9")
def a_fresh_id_is_called_used(shop: HistoryShop) -> None:
    shop.reserve("a", 1, change=lambda _: IdempotencyMismatch(""))


@planted("I9")
def a_stocked_sku_is_not_reserved(shop: HistoryShop) -> None:
    shop.reserve("a", 1, change=lambda _: SkuNotFound("", version="1.2"))


@planted("I9")
def a_saved_location_is_not_found(shop: HistoryShop) -> None:
    shop.do(Call("receive", "x", (("cup", 1, "s1"),)), change=lambda _: LocationNotFound("", version="1.2"))


@planted("I10")
def something_happens_that_nobody_asked_for(shop: HistoryShop) -> None:
    shop.model.sequences[0] += 9
    shop.reserve("a", 1)


@planted("I10")
def the_first_sending_is_called_a_repeat(shop: HistoryShop) -> None:
    shop.reserve("a", 1, change=lambda told: replace(told, replayed=True))


@planted("I10")
def a_commit_is_called_done_that_was_not(shop: HistoryShop) -> None:
    told = shop.reserve("a", 1)
    shop.verb("commit", "a", change=lambda _: replace(told, replayed=True))


@planted("I11")
def an_answer_is_older_than_what_was_known(shop: HistoryShop) -> None:
    before = shop.ask_availability()
    shop.reserve("a", 1)
    shop.ask_availability(change=lambda _: before)


@planted("I11")
def a_read_is_stale(shop: HistoryShop) -> None:
    shop.reserve("a", 1)
    before = shop.ask_reservation("a")
    shop.verb("commit", "a")
    shop.ask_reservation("a", change=lambda _: before)


@planted("I11")
def an_effect_comes_before_what_was_told(shop: HistoryShop) -> None:
    shop.reserve("a", 1)
    shop.model.sequences[0] = 9
    shop.reserve("b", 1)
    shop.reserve("c", 1, change=lambda told: replace(told, version="1.7"))


@planted("I14")
def an_answer_is_for_another_reservation(shop: HistoryShop) -> None:
    shop.reserve("a", 1)
    shop.reserve("b", 1)
    shop.verb("commit", "a", change=lambda told: replace(told, id=id_of("b")))


@planted("I14")
def an_answer_is_for_another_basket(shop: HistoryShop) -> None:
    shop.reserve("a", 1, change=lambda told: with_units(told, quantity=2, held=2))


def judge(plant: Plant | None, path: Path) -> Report:
    shop = HistoryShop()
    shop.open("s1")
    shop.receive("mug", 5)
    if plant is not None:
        plant(shop)
    return shop.check(path)


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_is_found(name: str, tmp_path: Path) -> None:
    """The fault is found first under the invariant it breaks, with an operation that shows it."""
    invariant, plant = PLANTED[name]
    report = judge(plant, tmp_path / "history.jsonl")
    assert invariant in {violation.invariant for violation in report.violations}, report.violations
    shown = [violation for violation in report.violations if violation.invariant == invariant]
    assert invariant == "I10" or shown[0].operations


def test_without_a_fault_nothing_is_found(tmp_path: Path) -> None:
    """What the plants begin with is legal."""
    assert judge(None, tmp_path / "history.jsonl").is_clean


def test_each_invariant_that_a_history_can_show_is_planted() -> None:
    """I12 shows as I2 and I4, I13 needs a consumer of the stream."""
    found = {invariant for invariant, _ in PLANTED.values()}
    assert found == {*(f"I{number}" for number in range(1, 12)), "I14"}


def test_an_unknown_outcome_covers_either(tmp_path: Path) -> None:
    """A lost answer may or may not have had its effect: both are legal, a third is not."""
    for units, is_clean in ((5, True), (3, True), (4, False)):
        shop = HistoryShop()
        shop.open("s1")
        shop.receive("mug", 5)
        shop.reserve("a", 2, fate="lost" if units == 3 else "never came")
        shop.ask_availability(change=lambda told, units=units: replace(
            told, available=units, locations=[replace(told.locations[0], available=units)]
        ))  # fmt: skip
        report = shop.check(tmp_path / "history.jsonl")
        # Between least and most nothing is ruled out.
        assert report.is_clean or not is_clean
        assert report.unknown == 1


def test_a_policy_takes_a_position_out_of_judgement(tmp_path: Path) -> None:
    """Where stock is withheld by a setting, no history tells since when."""
    shop = HistoryShop()
    shop.open("s1")
    shop.receive("mug", 5)
    shop.ask_stock(change=lambda row: replace(row, safety_stock=2, available=3))
    assert isinstance(shop.model.positions["mug", "s1"], Position)
    shop.ask_availability(change=lambda told: replace(
        told, available=3, locations=[replace(told.locations[0], available=3)]
    ))  # fmt: skip
    assert shop.check(tmp_path / "history.jsonl").is_clean
