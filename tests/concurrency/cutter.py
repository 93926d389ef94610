"""A relay between the engine and a server that loses answers when told to."""

import asyncio
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self


class Cutter:
    """Passes everything on, until `lose_next_answer`: then a script's next answer is dropped."""

    def __init__(self, server_socket: str, own_socket: Path) -> None:
        self.url = f"unix://{own_socket}"
        self.lost = 0
        self._server_socket = server_socket
        self._own_socket = own_socket
        self._losing = False
        self._armed = False
        self._relays: set[asyncio.Task[None]] = set()
        self._halves: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_unix_server(self._accept, str(self._own_socket))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()
        for half in self._halves:
            half.cancel()
        await asyncio.gather(*self._relays)

    def lose_next_answer(self) -> None:
        """The server will have done what it was asked, and nobody will know."""
        self._losing = True

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._relays.add(task)
        server_reader, server_writer = await asyncio.open_unix_connection(self._server_socket)
        asked = asyncio.create_task(self._pass_on(reader, server_writer))
        answered = asyncio.create_task(self._pass_back(server_reader, writer))
        self._halves |= {asked, answered}
        try:
            await asyncio.wait((asked, answered), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for half in (asked, answered):
                half.cancel()
            await asyncio.gather(asked, answered, return_exceptions=True)
            for end in (writer, server_writer):
                end.close()
                with suppress(OSError, asyncio.CancelledError):
                    await end.wait_closed()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(65536):
            self._armed = self._armed or (self._losing and b"FCALL" in chunk)
            writer.write(chunk)
            await writer.drain()

    async def _pass_back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(65536):
            # Scripts answer with a list, loading them with a string.
            if self._armed and chunk.startswith(b"*"):
                self._losing = self._armed = False
                self.lost += 1
                return
            writer.write(chunk)
            await writer.drain()
