"""One API worker for the tests: `serve.py PROTOCOL WORKER`, its listening socket as descriptor 3.

PROTOCOL is `hot` for the protocol that the product serves with, `asgi` for plain uvicorn, in which hot
requests go the long way through the front. Both must answer the same.
"""

import importlib
import os
import socket
import sys

import uvicorn

from api.access import Access
from api.app import create_app
from api.http_worker import HEADERS
from api.lifeline import bind_to_parent
from api.limits import limits_of_environment
from api.protocol import HotProtocol


def main() -> None:
    bind_to_parent()
    protocol, worker = sys.argv[1:]
    if "BINCARD_TEST_LEAK" in os.environ:
        Access.check_location = lambda *_: None  # type: ignore[method-assign] - the fault that a test plants
    for constant in os.environ.get("BINCARD_TEST_CONSTANTS", "").split():
        name, _, number = constant.partition("=")
        module, _, name = name.rpartition(".")
        setattr(importlib.import_module(module), name, float(number))
    app = create_app(
        redis_url=os.environ["BINCARD_REDIS_URL"],
        durability="none",
        auth=os.environ.get("BINCARD_AUTH", "off"),
        worker=int(worker),
        limits=limits_of_environment(),
    )
    config = uvicorn.Config(
        app,
        http=HotProtocol if protocol == "hot" else "httptools",
        loop="uvloop",
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        headers=HEADERS,
        timeout_graceful_shutdown=2,
    )
    with socket.socket(fileno=int(os.environ["BINCARD_LISTEN_FD"])) as listener:
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
