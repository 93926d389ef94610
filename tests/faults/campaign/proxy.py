"""A relay between the engine and a server that delays, stalls, cuts and loses what passes, when told to.

It never sends anything twice and never changes a byte: TCP does not do that either.
"""

import asyncio
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

CHUNK_BYTES = 65_536
LINGER_SECONDS = 0.05
"""How long a connection whose answers are lost stays up, so that the caller sees no reason to hurry."""


class Proxy:
    """Listens on a socket of its own and passes everything on to the server's."""

    def __init__(self, server_socket: Path, own_socket: Path) -> None:
        self.url = f"unix://{own_socket}"
        self.delay_seconds = 0.0
        self.flows = asyncio.Event()
        self.flows.set()
        self.is_losing_answers = False
        self.bytes_until_cut = -1
        self.delayed = self.stalled = self.lost_answers = self.cuts = 0
        self._server_socket = server_socket
        self._own_socket = own_socket
        self._relays: set[asyncio.Task[None]] = set()
        self._halves: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_unix_server(self._accept, str(self._own_socket))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()
        self.flows.set()
        for half in self._halves:
            half.cancel()
        await asyncio.gather(*self._relays, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._relays.add(task)
        task.add_done_callback(self._relays.discard)
        halves: set[asyncio.Task[None]] = set()
        ends = [writer]
        try:
            from_server, to_server = await asyncio.open_unix_connection(str(self._server_socket))
            ends.append(to_server)
            halves = {
                asyncio.ensure_future(self._pass(reader, to_server, is_answer=False)),
                asyncio.ensure_future(self._pass(from_server, writer, is_answer=True)),
            }
            self._halves |= halves
            await asyncio.wait(halves, return_when=asyncio.FIRST_COMPLETED)
        except OSError:
            pass  # the server is away: so are we
        finally:
            for half in halves:
                half.cancel()
            await asyncio.gather(*halves, return_exceptions=True)
            self._halves -= halves
            for end in ends:
                end.transport.abort()

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_answer: bool
    ) -> None:
        """Until one side ends or the connection is to be cut."""
        with suppress(OSError):
            while chunk := await reader.read(CHUNK_BYTES):
                if not self.flows.is_set():
                    self.stalled += 1
                    await self.flows.wait()
                if self.delay_seconds:
                    self.delayed += 1
                    await asyncio.sleep(self.delay_seconds)
                if is_answer and self.is_losing_answers:
                    self.lost_answers += 1
                    await asyncio.sleep(LINGER_SECONDS)
                    return
                if 0 <= self.bytes_until_cut <= len(chunk):
                    writer.write(chunk[: self.bytes_until_cut])
                    with suppress(OSError):
                        await writer.drain()
                    self.bytes_until_cut = -1
                    self.cuts += 1
                    return
                if self.bytes_until_cut > 0:
                    self.bytes_until_cut -= len(chunk)
                writer.write(chunk)
                await writer.drain()
