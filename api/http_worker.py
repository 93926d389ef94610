"""Process entry of an API worker: serves the application on the socket that the supervisor bound."""

from __future__ import annotations

import os
import socket
import sys

from api.lifeline import bind_to_parent
from api.listen import BACKLOG
from api.logs import configure_logging

NOTICE_SECONDS = 1.0
"""How long a worker that must stop still lets new connections in, and tells all that it will stop."""
DRAIN_SECONDS = 20
"""How long requests under way may take to finish after that."""
HEADERS = [("x-content-type-options", "nosniff"), ("cache-control", "no-store")]
"""Of every answer: it is what it says it is, and nobody keeps it for others."""


def main() -> None:
    """Serves until SIGTERM, then finishes the requests under way."""
    bind_to_parent()
    worker = int(os.environ["BINCARD_WORKER"])
    configure_logging(f"api-{worker}")
    import uvicorn  # noqa: PLC0415 - after the life is bound, which must not wait for imports

    from api.app import create_app  # noqa: PLC0415 - same
    from api.draining import DrainingServer  # noqa: PLC0415 - same
    from api.limits import limits_of_environment  # noqa: PLC0415 - same
    from api.protocol import HotProtocol  # noqa: PLC0415 - same

    app = create_app(
        redis_url=os.environ["BINCARD_REDIS_URL"],
        durability=os.environ["BINCARD_DURABILITY"],
        replicas=int(os.environ.get("BINCARD_REPLICAS", "1")),
        auth=os.environ["BINCARD_AUTH"],
        worker=worker,
        limits=limits_of_environment(),
    )
    config = uvicorn.Config(
        app,
        http=HotProtocol,
        loop="asyncio" if sys.platform == "win32" else "uvloop",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        # The address in forwarded headers is nothing that we use, hence nothing to be deceived by.
        proxy_headers=False,
        backlog=BACKLOG,
        headers=HEADERS,
        timeout_graceful_shutdown=DRAIN_SECONDS,
    )
    with socket.socket(fileno=int(os.environ["BINCARD_LISTEN_FD"])) as listener:
        DrainingServer(config, notice_seconds=NOTICE_SECONDS).run(sockets=[listener])


if __name__ == "__main__":
    main()
