import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import planner
from engine.commands import Reply
from engine.errors import InvalidRequest
from engine.records import decode_plan
from engine.refusals import shortage_refusal
from engine.types import Line, LocationAvailability, Status

lines = st.lists(
    st.builds(Line, st.sampled_from("abcd"), st.integers(1, 10**9), st.sampled_from(["W", "S"])),
    min_size=1,
    max_size=30,
)


@given(lines)
def test_lines_are_summed_per_position(basket: list[Line]) -> None:
    """No two positions of a plan are the same place; nothing is lost, and each line knows its position."""
    plan, shares = planner.plan_lines(basket)
    wanted: dict[tuple[str, str], int] = {}
    for line in basket:
        wanted[line.sku, line.location] = wanted.get((line.sku, line.location), 0) + line.quantity
    found = {(each.sku, each.location): each.quantity for each in plan.positions}
    assert found == wanted
    assert len(found) == len(plan.positions)
    assert decode_plan(plan.packed)[0] == plan
    if len(wanted) == len(basket):
        assert shares == ()
    else:
        places = [(plan.positions[at].sku, plan.positions[at].location) for at, _ in shares]
        assert places == [(line.sku, line.location) for line in basket]
        assert [quantity for _, quantity in shares] == [line.quantity for line in basket]


@given(lines)
def test_choosing_what_was_planned(basket: list[Line]) -> None:
    """Lines of a resolution find the positions of their reservation, with the same sums."""
    plan, _ = planner.plan_lines(basket)
    chosen = planner.choose_positions(plan, basket)
    assert sorted(chosen) == [(at, each.quantity) for at, each in enumerate(plan.positions)]
    packed = planner.encode_choice(chosen)
    assert packed[0] == len(chosen)
    assert len(packed) == 1 + 6 * len(chosen)


def test_choosing_what_is_not_there() -> None:
    """A line that the reservation does not have is named by its place in the request."""
    plan, _ = planner.plan_lines([Line("a", 1, "W")])
    for bad in (Line("b", 1, "W"), Line("a", 1, "S")):
        with pytest.raises(InvalidRequest, match=r"^/lines/1: "):
            planner.choose_positions(plan, [Line("a", 1, "W"), bad])
    with pytest.raises(InvalidRequest, match=r"^/lines/0/quantity: "):
        planner.choose_positions(plan, [Line("a", 0, "W")])


def test_choosing_nothing_is_not_choosing_all() -> None:
    """Who names no line must not get every line."""
    plan, _ = planner.plan_lines([Line("a", 1, "W")])
    with pytest.raises(InvalidRequest):
        planner.choose_positions(plan, [])


def test_the_longest_names() -> None:
    """200 lines of the longest names do not fit into a plan and are refused; a few fewer fit."""
    basket = [Line("😀" * 64, 1, f"{number:064}") for number in range(200)]
    planner.check_lines(basket)
    with pytest.raises(InvalidRequest, match=r"^/lines: the names"):
        planner.plan_lines(basket)
    plan, _ = planner.plan_lines(basket[:198])
    assert decode_plan(plan.packed)[0] == plan


@pytest.mark.parametrize(
    ("basket", "field"),
    [
        ([], "/lines"),
        ([Line("a", 1, "W")] * 201, "/lines"),
        ([Line("a", 1, "W"), Line("", 1, "W")], "/lines/1/sku"),
        ([Line("a" * 65, 1, "W")], "/lines/0/sku"),
        ([Line("a\nb", 1, "W")], "/lines/0/sku"),
        ([Line("a\0", 1, "W")], "/lines/0/sku"),
        ([Line("\ud800", 1, "W")], "/lines/0/sku"),
        ([Line("a", 0, "W")], "/lines/0/quantity"),
        ([Line("a", -1, "W")], "/lines/0/quantity"),
        ([Line("a", 10**9 + 1, "W")], "/lines/0/quantity"),
        ([Line("a", 1, "")], "/lines/0/location"),
        ([Line("a", 1, "a:b")], "/lines/0/location"),
        ([Line("a", 1, "a\n")], "/lines/0/location"),
        ([Line("a", 1, "W" * 65)], "/lines/0/location"),
    ],
)
def test_lines_that_break_a_rule(basket: list[Line], field: str) -> None:
    """The first fault is named by its place."""
    with pytest.raises(InvalidRequest) as caught:
        planner.check_lines(basket)
    assert caught.value.field == field


def test_lines_at_the_limits() -> None:
    """200 lines, 64 characters, a thousand million units, any printable text."""
    planner.check_lines([Line("é:/{}% 靴" + "a" * 56, 10**9, "W" * 64)] * 200)


def test_every_line_of_a_short_position_is_named() -> None:
    """With the sum that was asked for and what is there."""
    plan, shares = planner.plan_lines([Line("a", 1, "W"), Line("b", 2, "W"), Line("a", 3, "W")])
    refusal = shortage_refusal(Reply(0, 1, 8, [b"insufficient_stock", 7, 0, 2, 4]), plan, shares)
    assert refusal.version == "1.7"
    assert [(each.line, each.sku, each.requested, each.available) for each in refusal.shortages] == [
        (0, "a", 4, 2),
        (2, "a", 4, 2),
    ]


def test_availability_is_summed_above_zero() -> None:
    """A place that is over-promised takes nothing from the others; the best status is shown."""
    places = [
        LocationAvailability("W", -5, Status.BACKORDER),
        LocationAvailability("S", 3, Status.LOW_STOCK),
        LocationAvailability("X", 0, Status.OUT_OF_STOCK),
    ]
    found = planner.sum_availability("shoe", "1.2", places)
    assert (found.available, found.status) == (3, Status.LOW_STOCK)
    alone = planner.sum_availability("shoe", "1.2", places[:1])
    assert (alone.available, alone.status) == (0, Status.BACKORDER)
    assert planner.sum_availability("shoe", "1.2", []).status is Status.OUT_OF_STOCK
