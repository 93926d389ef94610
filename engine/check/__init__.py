"""Judges recorded histories: was every answer that callers got one that the promises allow?

`check` reads what `engine.history` wrote. It knows nothing of the store, and shares no rule with the
scripts. It raises no false alarm: what a history does not tell, it takes for whatever is allowed.
"""

from engine.check.findings import Violation
from engine.check.judge import Report, check
from engine.check.reading import UnreadableHistoryError

__all__ = ["Report", "UnreadableHistoryError", "Violation", "check"]
