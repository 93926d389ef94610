"""What a replay keeps of documents and of what they bring: compared with what the scripts stored."""

from engine import limits
from engine.document_kinds import decode_document
from engine.documents import Document, split_document
from engine.events import DocumentSaved, Supplied
from engine.types import Supply


class ReplayedSupply:
    """Supplies and documents of one partition, event by event."""

    def __init__(self) -> None:
        self.supplies: dict[tuple[str, str], dict[bytes, Supply]] = {}
        """SKU and location → source → what it will bring."""
        self.documents: dict[bytes, bytes] = {}
        """Document → its stored form, also of one that may be forgotten by now."""
        self.saved_ms: dict[bytes, int] = {}
        """Document → when that was stored."""

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
        if event.number == 1 and self.may_be_forgotten(event.id, event.at_ms):
            number = 0
        self.documents[event.id], self.saved_ms[event.id] = event.stored, event.at_ms
        if event.number != number + 1:
            return f"is version {event.number} after {number}"
        if was_pending and event.is_pending:
            return "took a step before the effects of the one before it had happened"
        return None

    def document(self, own: bytes) -> Document:
        """A document as it was stored last."""
        return decode_document(split_document(self.documents[own])[2])

    def has_ended(self, own: bytes) -> bool:
        """Whether a document is over, with all its effects."""
        return self.documents[own][4] == 0 and self.document(own).is_over

    def may_be_forgotten(self, own: bytes, now_ms: int) -> bool:
        """Whether a document ended so long ago that it need not be there."""
        saved_ms = self.saved_ms.get(own)
        is_old = saved_ms is not None and saved_ms + limits.DOCUMENT_SECONDS * 1000 <= now_ms
        return is_old and self.has_ended(own)
