"""The end of an API worker: first it tells that it will stop, then it lets nobody in, then it ends."""

import asyncio
from socket import socket
from typing import TYPE_CHECKING, cast

import uvicorn

if TYPE_CHECKING:
    from api.app import Application


class DrainingServer(uvicorn.Server):
    """A uvicorn that gives notice.

    For `notice_seconds` after the signal it goes on as before, except that `/readyz` says `draining` and
    every answer closes its connection: who is connected learns it from an answer, and who is about to
    connect is still served. Only then uvicorn closes the door and what is idle, and waits for the rest.
    """

    def __init__(self, config: uvicorn.Config, *, notice_seconds: float) -> None:
        super().__init__(config)
        self._notice_seconds = notice_seconds

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        """Called by uvicorn once the signal was seen."""
        cast("Application", self.config.app).drain()
        await asyncio.sleep(self._notice_seconds)
        await super().shutdown(sockets)
