"""Work that nobody asks for: objects with a `tick`, and the host that calls it."""

from engine.workers.bookkeeper import Bookkeeper
from engine.workers.host import Host, Worker
from engine.workers.indexer import Indexer
from engine.workers.inheritor import Inheritor
from engine.workers.reconciler import Reconciler
from engine.workers.stocktaker import Stocktaker
from engine.workers.surveyor import Surveyor
from engine.workers.sweeper import Sweeper

__all__ = [
    "Bookkeeper",
    "Host",
    "Indexer",
    "Inheritor",
    "Reconciler",
    "Stocktaker",
    "Surveyor",
    "Sweeper",
    "Worker",
]
