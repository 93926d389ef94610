"""What a replay keeps of documents and of what they bring: compared with what the scripts stored."""

from engine.events import DocumentSaved, Supplied
from engine.types import Supply


class ReplayedSupply:
    """Supplies and documents of one partition, event by event."""

    def __init__(self) -> None:
        self.supplies: dict[tuple[str, str], dict[bytes, Supply]] = {}
        """SKU and location → source → what it will bring."""
        self.documents: dict[bytes, bytes] = {}
        """Document → its stored form."""

    def supply(self, event: Supplied) -> int:
        """Takes a supply; how many units its position expects from then on."""
        place = event.sku, event.location
        own = self.supplies.setdefault(place, {})
        if event.supply.quantity:
            own[event.supply.source] = event.supply
        else:
            own.pop(event.supply.source, None)
        if not own:
            del self.supplies[place]
        return sum(supply.quantity for supply in own.values())

    def save(self, event: DocumentSaved) -> str | None:
        """Takes a document; what is wrong with it."""
        before = self.documents.get(event.id)
        number = int.from_bytes(before[:4], "little") if before else 0
        was_pending = before is not None and before[4] == 1
        self.documents[event.id] = event.stored
        if event.number != number + 1:
            return f"is version {event.number} after {number}"
        if was_pending and event.is_pending:
            return "took a step before the effects of the one before it had happened"
        return None
