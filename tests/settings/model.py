"""What settings mean, in plain Python: the engine must answer as this does."""

from collections.abc import Mapping

MOST_LEVELS = 4
NAMED = {"pool": "location", "channel": "pool", "item": "item"}


class SettingsModel:
    """All settings by class and id, as what each of them names; and where goods are."""

    def __init__(self) -> None:
        self.stored: dict[str, dict[str, tuple[str, ...]]] = {
            word: {} for word in ("location", "pool", "channel", "item")
        }
        self.goods: set[tuple[str, str]] = set()
        """SKU and location of every position."""
        self.number = 0
        """Of the decisions that changed something."""

    def save(self, word: str, name: str, names: tuple[str, ...]) -> str:
        """The word of the answer."""
        if word in {"pool", "channel"}:
            for other in names:
                if other not in self.stored[NAMED[word]]:
                    return f"{NAMED[word]}_not_found"
        if word == "item" and self._is_bad_kit(name, names):
            return "invalid_request"
        if self.stored[word].get(name) != names:
            self.number += 1
        self.stored[word][name] = names
        return "saved"

    def delete(self, word: str, name: str) -> str:
        """The word of the answer."""
        if name not in self.stored[word]:
            return f"{word}_not_found"
        if self.is_stocked(word, name):
            return f"{word}_in_use"
        for user, named in NAMED.items():
            if named == word and any(name in names for names in self.stored[user].values()):
                return f"{word}_in_use"
        del self.stored[word][name]
        self.number += 1
        return "saved"

    def stock(self, sku: str, location: str) -> str:
        """The word of the answer to a receipt."""
        if location not in self.stored["location"]:
            return "location_not_found"
        self.goods.add((sku, location))
        return "saved"

    def is_stocked(self, word: str, name: str) -> bool:
        place = {"item": 0, "location": 1}.get(word)
        return place is not None and any(position[place] == name for position in self.goods)

    def _is_bad_kit(self, name: str, names: tuple[str, ...]) -> bool:
        items = {**self.stored["item"], name: names}
        return any(_levels(items, kit, MOST_LEVELS + 1) > MOST_LEVELS for kit in items)


def _levels(items: Mapping[str, tuple[str, ...]], kit: str, most: int) -> int:
    """How many levels of components a kit has; what goes round has more than any."""
    parts = items.get(kit, ())
    return 1 + max(_levels(items, part, most - 1) for part in parts) if parts and most else 0
