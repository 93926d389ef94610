"""Counts of several processes: each offers its own on a socket, whoever is scraped asks all others.

The sockets lie in a directory that only our user can enter (`BINCARD_RUN_DIR`). A process that is gone
or does not answer at once is left out: a scrape must not hang on it.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from logging import getLogger
from pathlib import Path

import msgspec

from api.codec import encode
from api.metrics import WorkerCounts

log = getLogger("bincard.metrics")

ANSWER_TIMEOUT_SECONDS = 0.5
_decode = msgspec.json.Decoder(WorkerCounts).decode


class CountsExchange:
    """Offers the counts of this process, and gathers those of all.

    `directory` is None where this process is alone.
    """

    def __init__(self, directory: Path | None, name: str, own: Callable[[], WorkerCounts]) -> None:
        self._directory = directory
        self._name = f"{name}.sock"
        self._own = own
        self._server: asyncio.AbstractServer | None = None

    async def open(self) -> None:
        """Offers the counts. Where that is not possible, says so in the log: no reason not to serve."""
        if self._directory is None:
            return
        path = self._directory / self._name
        try:
            path.unlink(missing_ok=True)
            self._server = await asyncio.start_unix_server(self._offer, path)
        except OSError as error:
            log.warning("other workers cannot ask for the counts of this one: %s: %s", path, error)

    async def close(self) -> None:
        """Ends the offer."""
        if self._server is None or self._directory is None:
            return
        self._server.close()
        with suppress(OSError):
            (self._directory / self._name).unlink(missing_ok=True)

    async def gather(self) -> list[WorkerCounts]:
        """The counts of this process and of every other one that answers."""
        others: list[Path] = []
        if self._directory is not None:
            others = [path for path in self._directory.glob("*.sock") if path.name != self._name]
        answers = await asyncio.gather(*(_ask(path) for path in others))
        return [self._own(), *(answer for answer in answers if answer is not None)]

    async def _offer(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            writer.write(encode(self._own()))
            await writer.drain()
        writer.close()


async def _ask(path: Path) -> WorkerCounts | None:
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_SECONDS):
            reader, writer = await asyncio.open_unix_connection(path)
            try:
                return _decode(await reader.read())
            finally:
                writer.close()
    except (OSError, TimeoutError, msgspec.DecodeError):
        return None
