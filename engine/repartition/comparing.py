"""Compares a data set with the one that it was written from."""

from collections.abc import Mapping
from typing import Any

from engine.ids import OperationIds, keeper_of
from engine.repartition.books import Books
from engine.repartition.layout import Layout

SUPPLIES_FROM = 3
"""Where the numbers begin of what a position expects."""


def compare_books(source: Books, target: Books, layout: Layout) -> list[str]:
    """Everything in which the target is not what the source was, a line each."""
    compared: list[tuple[str, Mapping[Any, object], Mapping[Any, object]]] = [
        ("settings", source.settings, target.settings),
        ("on_hand", source.on_hand, target.on_hand),
        ("policies", source.policies, target.policies),
        ("fences", source.fences, target.fences),
        ("units promised of what is expected", source.preordered, target.preordered),
        ("expected units", source.supplies, target.supplies),
        ("documents", source.documents, target.documents),
        ("newest counts", source.counts, target.counts),
        ("conditions", source.conditions, target.conditions),
        ("histories", source.history, target.history),
        ("reservations", _reservations(source), _reservations(target)),
        ("answers", _answers_before(source, layout), _answers_after(source, target)),
    ]
    if not layout.crossed:
        compared.append(("order of promises", _orders(source), _orders(target)))
    found = [
        f"{name}: {len(ours):,} of the source, {len(theirs):,} of the target, first {_first(ours, theirs)}"
        for name, ours, theirs in compared
        if ours != theirs
    ]
    begun = _begun(source)
    unbound = [operation for operation in _unbound(target) if operation not in begun]
    if unbound:
        found.append(f"{len(unbound):,} operation ids are unknown to their keepers, first {unbound[0].hex()}")
    return found


def _unbound(books: Books) -> list[bytes]:
    """Operation ids that are remembered in another partition than their keeper, which does not know them."""
    marks: dict[bytes, set[bytes]] = {}
    filed: set[tuple[int, bytes]] = set()
    for (route, operation), promise in books.promises.items():
        filed.add((route % books.partitions, operation))
        if promise.is_open or promise.read_head().deadline_ms > books.now_ms:
            marks.setdefault(operation, set()).add(promise.mark)
    for memory in books.memories:
        filed.add((memory.route % books.partitions, memory.operation))
        if memory.until_ms > books.now_ms:
            marks.setdefault(memory.operation, set()).add(memory.mark)
    return [
        operation
        for operation, known in marks.items()
        if (keeper_of(operation, books.partitions), operation) not in filed
        and books.bonds.get(operation, (b"", 0))[0] not in known
    ]


def _reservations(books: Books) -> dict[Any, object]:
    return {key: promise.content for key, promise in books.promises.items()}


def _answers(books: Books) -> dict[tuple[bytes, bytes], object]:
    return {(one.operation, one.record): (one.route, one.until_ms) for one in books.memories}


def _answers_before(source: Books, layout: Layout) -> dict[Any, object]:
    gone = {(one.operation, one.record) for one in layout.gave_way}
    return {name: told for name, told in _answers(source).items() if name not in gone}


def _answers_after(source: Books, target: Books) -> dict[Any, object]:
    """All but those to what said what a position expects: nobody can ask for them again."""
    begun = _begun(source)
    return {name: told for name, told in _answers(target).items() if name[0] not in begun}


def _begun(source: Books) -> set[bytes]:
    """The ids under which the target was told what positions expect; no caller knows them."""
    ids = OperationIds(source.secret)
    return {
        ids.of_opening(source.epoch, *place, SUPPLIES_FROM + number)
        for place, found in source.supplies.items()
        for number in range(len(found))
    }


def _orders(books: Books) -> dict[Any, object]:
    return {field: claims for field, claims in books.claims.items() if claims}


def _first(ours: Mapping[Any, object], theirs: Mapping[Any, object]) -> str:
    different = [key for key in {**ours, **theirs} if ours.get(key) != theirs.get(key)]
    return f"{different[0]!r}: {str(ours.get(different[0]))[:200]}, {str(theirs.get(different[0]))[:200]}"
