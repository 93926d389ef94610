"""What a web framework can do at all: an ASGI hello, and a typed FastAPI route without anything behind it.

Both run on the web server, event loop and parser that the API runs on, with its settings.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel, Field

from api.listen import BACKLOG

Message = MutableMapping[str, Any]
HELLO_HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"17")]
HELLO_BODY = b'{"hello":"world"}'


async def hello(
    scope: Message,  # noqa: ARG001 - ASGI's signature
    receive: Callable[[], Awaitable[Message]],  # noqa: ARG001 - same
    send: Callable[[Message], Awaitable[None]],
) -> None:
    """The least that an ASGI application can do."""
    await send({"type": "http.response.start", "status": 200, "headers": HELLO_HEADERS})
    await send({"type": "http.response.body", "body": HELLO_BODY})


class TypedLine(BaseModel):
    """A line as the reserve route takes it."""

    sku: str = Field(min_length=1, max_length=64)
    quantity: int = Field(ge=1, le=1_000_000_000)
    location: str = Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")


class TypedReserve(BaseModel):
    """The body of the typed route: that of a reserve."""

    lines: list[TypedLine] = Field(min_length=1, max_length=200)
    ttl_seconds: int = Field(default=900, ge=1)


class TypedAnswer(BaseModel):
    """What the typed route answers."""

    id: str
    state: str
    lines: list[TypedLine]


typed = FastAPI()


@typed.post("/v1/reservations", status_code=201)
async def reserve(body: TypedReserve) -> TypedAnswer:
    """Checks the body and says it back: no store, no id, no event."""
    return TypedAnswer(id="r_0000000000000000000", state="held", lines=body.lines)


async def serve(application: object) -> None:
    """Serves on a free port and says which."""
    with socket.create_server(("127.0.0.1", 0), backlog=BACKLOG) as listener:
        config = uvicorn.Config(
            application,  # type: ignore[arg-type]  # either kind of ASGI application
            http="httptools",
            loop="uvloop",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=75,
        )
        print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
        await uvicorn.Server(config).serve(sockets=[listener])


def main() -> None:
    """`python -m benchmarks.bare_apps hello|typed`."""
    import uvloop  # noqa: PLC0415 - absent on Windows, where no benchmark runs

    application = {"hello": hello, "typed": typed}[sys.argv[1]]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(application))


if __name__ == "__main__":
    main()
