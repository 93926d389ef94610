"""Whatever an engine may answer, the checker finds nothing wrong with."""

from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.check.shop import HistoryShop
from tests.model import Call

SKUS, PLACES, KEYS = ("mug", "cup"), ("s1", "s2"), tuple("abcdef")
VERBS = ("commit", "commit", "release", "extend", "fulfil", "cancel")


@st.composite
def calls(draw: st.DrawFn) -> Call:
    """A request that collides with others: few SKUs, few ids, few units."""
    place = st.tuples(st.sampled_from(SKUS), st.integers(1, 3), st.sampled_from(PLACES))
    kind = draw(st.sampled_from(("fact", "reserve", "reserve", "verb", "verb", "verb")))
    if kind == "fact":
        verb = draw(st.sampled_from(("receive", "receive", "sale", "adjust")))
        sku, units, location = draw(place)
        units = -units if verb == "adjust" and draw(st.booleans()) else units
        return Call(
            verb,
            "m" + draw(st.sampled_from(KEYS * 2)) + draw(st.sampled_from("12345")),
            ((sku, units, location),),
        )
    lines = draw(st.lists(place, min_size=1, max_size=3, unique_by=lambda line: (line[0], line[2])))
    ttl_seconds = draw(st.sampled_from((1, 5, 900)))
    if kind == "reserve":
        return Call("reserve", draw(st.sampled_from(KEYS)), tuple(lines), ttl_seconds=ttl_seconds)
    verb = draw(st.sampled_from(VERBS))
    key = draw(st.none() | st.sampled_from(("x1", "x2", "x3", "x4")))
    whole = verb == "extend" or draw(st.booleans())
    return Call(
        verb,
        key,
        None if whole else tuple(lines[:1]),
        draw(st.sampled_from(KEYS)),
        ttl_seconds if verb == "extend" else 900,
        keep=verb == "commit" and draw(st.booleans()),
        fulfil=verb == "commit" and draw(st.booleans()),
        retake=verb == "commit" and draw(st.booleans()),
    )


FATES = st.sampled_from(("told",) * 12 + ("lost", "never came", "cut off"))
STEPS = st.one_of(
    st.tuples(st.just("call"), calls(), FATES, st.integers(0, 6), st.integers(0, 6)),
    st.tuples(st.just("call"), calls(), FATES, st.integers(0, 6), st.integers(0, 6)),
    st.tuples(st.just("availability"), st.sampled_from(SKUS), st.integers(0, 6), st.integers(0, 6)),
    st.tuples(st.just("stock"), st.sampled_from(SKUS), st.integers(0, 6)),
    st.tuples(st.just("read"), st.sampled_from(KEYS), st.integers(0, 6), st.integers(0, 6)),
    st.tuples(st.just("wait"), st.sampled_from((0.5, 2, 10))),
    st.tuples(st.just("sweep")),
)


def is_possible(shop: HistoryShop, call: Call) -> bool:
    """A line that the reservation does not have is refused before anyone decides."""
    known = shop.model.reservations.get(call.reservation)
    if call.verb in {"reserve", "receive", "sale", "adjust"} or call.lines is None or known is None:
        return True
    return all((sku, location) in known.shares for sku, _, location in call.lines)


def play(shop: HistoryShop, steps: list[Any]) -> None:
    shop.open(*PLACES)
    for kind, *step in steps:
        match kind:
            case "call" if is_possible(shop, step[0]):
                call, fate, before, after = step
                shop.do(call, fate=fate, before=before, after=after)
            case "availability":
                shop.ask_availability(step[0], before=step[1], after=step[2])
            case "stock":
                shop.model.give_back(0)
                shop.ask_stock(step[0], after=step[1])
            case "read":
                shop.ask_reservation(step[0], before=step[1], after=step[2])
            case "wait":
                shop.wait(step[0])
            case "sweep":
                shop.model.sweep((0,))


@given(st.lists(STEPS, max_size=60))
def test_legal_histories_are_clean(steps: list[Any]) -> None:
    """Concurrent callers, equal ids, lost answers, lapsing holds: no false alarm."""
    shop = HistoryShop()
    play(shop, steps)
    with NamedTemporaryFile() as file:
        report = shop.check(Path(file.name))
    assert report.violations == []
    assert report.is_clean


@given(st.lists(STEPS, max_size=40), st.integers(0, 40))
def test_histories_that_begin_late_are_clean(steps: list[Any], begin: int) -> None:
    """A recorder that is switched on in the middle: what came before is no violation."""
    shop = HistoryShop()
    play(shop, steps[:begin])
    later = HistoryShop(shop.model, begins=shop._version())
    later.now, later.made_ms = shop.now, shop.made_ms
    if shop.model.sequence(0):
        play(later, steps[begin:])
    with NamedTemporaryFile() as file:
        assert later.check(Path(file.name)).violations == []


def test_a_repeat_may_overtake_the_first_answer(tmp_path: Path) -> None:
    """Part of a reservation is cancelled, and the answer to the second sending arrives before the first's."""
    shop = HistoryShop()
    shop.open("s1")
    shop.receive("mug", 5)
    shop.reserve("cart", 2)
    shop.verb("commit", "cart")
    for after in (9, 1):
        shop.verb("cancel", "cart", "op", lines=(("mug", 1, "s1"),), before=2, after=after)
    report = shop.check(tmp_path / "shop.jsonl")
    assert report.violations == []


def test_a_repeat_overtakes_the_first_answer(tmp_path: Path) -> None:
    """Two processes were asked the same; what the second replays is told before the first has its answer."""
    shop = HistoryShop()
    shop.open("s1")
    shop.receive("mug", 5)
    shop.reserve("a", 2)
    part = Call("commit", "x", (("mug", 1, "s1"),), "a", keep=True)
    assert not shop.do(part, after=6).replayed
    assert shop.do(part).replayed
    shop.ask_reservation("a", before=0, after=0)
    assert shop.check(tmp_path / "shop.jsonl").violations == []


def test_an_effect_is_read_before_it_is_told(tmp_path: Path) -> None:
    """A commit whose answer was lost; another finds it done; then the first again."""
    shop = HistoryShop()
    shop.open("s1")
    shop.receive("mug", 5)
    shop.reserve("cart", 1)
    part = Call("commit", "x", (("mug", 1, "s1"),), "cart", keep=True)
    shop.do(part, fate="lost")
    shop.verb("commit", "cart", "y", fate="never came")
    shop.receive("cup", 1)
    assert shop.verb("commit", "cart", "y").replayed
    assert shop.do(part).replayed
    assert shop.check(tmp_path / "shop.jsonl").violations == []


def test_what_nobody_was_promised_may_be_undone(tmp_path: Path) -> None:
    """A reserve whose answer was lost, seen by a reader, is not there in the next epoch."""
    shop = HistoryShop()
    shop.open("s1")
    shop.receive("mug", 5)
    shop.reserve("a", 1)
    before = shop.model.sequence(0)
    shop.reserve("b", 1, fate="lost")
    shop.ask_availability("mug")
    del shop.model.reservations["b"]
    shop.model.positions["mug", "s1"].held -= 1
    shop.epoch, shop.model.sequences[0] = 2, before
    shop.reserve("c", 1)
    report = shop.check(tmp_path / "shop.jsonl")
    assert report.violations == []
    assert report.counts["versions read and undone"] == 1
