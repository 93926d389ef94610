"""One API worker for the tests: `serve.py PROTOCOL WORKER`, its listening socket as descriptor 3.

PROTOCOL is `hot` for the protocol that the product serves with, `asgi` for plain uvicorn, in which hot
requests go the long way through the front. Both must answer the same.
"""

import os
import socket
import sys

import uvicorn

from api.app import create_app
from api.lifeline import bind_to_parent
from api.protocol import HotProtocol


def main() -> None:
    bind_to_parent()
    protocol, worker = sys.argv[1:]
    app = create_app(redis_url=os.environ["BINCARD_REDIS_URL"], durability="none", worker=int(worker))
    app.most_connections = int(os.environ.get("BINCARD_TEST_CONNECTIONS", app.most_connections))
    config = uvicorn.Config(
        app,
        http=HotProtocol if protocol == "hot" else "httptools",
        loop="uvloop",
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=2,
        timeout_keep_alive=int(os.environ.get("BINCARD_TEST_KEEP_ALIVE", "5")),
    )
    with socket.socket(fileno=int(os.environ["BINCARD_LISTEN_FD"])) as listener:
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
