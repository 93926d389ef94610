"""Work that nobody asks for: objects with a `tick`, and the host that calls it."""

from engine.workers.host import Host, Worker
from engine.workers.indexer import Indexer
from engine.workers.inheritor import Inheritor
from engine.workers.sweeper import Sweeper

__all__ = ["Host", "Indexer", "Inheritor", "Sweeper", "Worker"]
