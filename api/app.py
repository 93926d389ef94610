"""The ASGI application of one worker: the front, the hot routes, FastAPI for the rest."""

import gc
import os
from pathlib import Path

from api.access_table import check_routes
from api.admission import MOST_CONNECTIONS, Admission, most_connections
from api.cold import create_cold_app
from api.front import Front, Receive, Scope, Send
from api.gate import Gate
from api.hot import Hot
from api.keyring import Keyring
from api.limits import DEFAULT, Limits
from api.logs import log_what_nobody_awaits
from api.metrics import HttpMetrics
from api.quota import quota_of
from api.readiness import Readiness
from api.run_directory import RUN_DIRECTORY_VARIABLE
from api.watch import Watch
from engine import connect


class Application:
    """Opens the engine when the server starts, serves, closes it when the server stops."""

    def __init__(
        self, *, redis_url: str, durability: str, auth: str, worker: int, replicas: int, limits: Limits
    ) -> None:
        self._redis_url = redis_url
        self._durability = durability
        self._replicas = replicas if durability == "replicated" else 0
        self._auth = auth
        self._worker = worker
        self._limits = limits
        self.front: Front
        """There from the start of the lifespan on."""
        self.admission: Admission
        """Same."""
        self.watch: Watch
        """Same."""
        self.most_connections = min(most_connections(), limits.max_connections or MOST_CONNECTIONS)
        self.is_draining = False
        """Whether every answer is the last one of its connection."""
        self._readiness: Readiness | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        await self.front(scope, receive, send)

    def drain(self) -> None:
        """Tells whoever asks that this worker is about to stop; everything is still answered."""
        self.is_draining = True
        if self._readiness is not None:
            self._readiness.is_draining = True

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            inventory = await connect(self._redis_url, create=False, replicas=self._replicas)
            await inventory.settings.current()
        except Exception as error:  # noqa: BLE001 - whatever it was, the server is told and stops
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        metrics = HttpMetrics()
        self.admission = Admission(lambda: inventory.requests_stuck)
        self.watch = Watch(self._limits, self.most_connections)
        keyring = Keyring(inventory) if self._auth == "keys" else None
        gate = Gate(keyring)
        cold = create_cold_app(
            inventory,
            metrics,
            self.admission,
            self.watch,
            gate,
            durability=self._durability,
            worker=self._worker,
        )
        self._readiness = cold.state.readiness
        meeting = os.environ.get(RUN_DIRECTORY_VARIABLE)
        quota = quota_of(
            self._limits.requests_per_second,
            self._limits.request_burst,
            Path(meeting) if meeting else None,
            of_keys=keyring is not None,
        )
        hot = Hot(inventory, self._durability)
        try:
            check_routes([*hot.routes(), *cold.state.served])
            if keyring is not None:
                await keyring.open()
        except Exception as error:  # noqa: BLE001 - same
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        self.front = Front(hot, cold, metrics, self._readiness, self.admission, self.watch, quota, gate)
        async with cold.router.lifespan_context(cold):
            tune_collector()
            self.watch.start()
            log_what_nobody_awaits()
            await send({"type": "lifespan.startup.complete"})
            await receive()
        self.watch.stop()
        if keyring is not None:
            await keyring.close()
        await inventory.close()
        await send({"type": "lifespan.shutdown.complete"})


def tune_collector() -> None:
    """Requests leave no cycles behind, so the collector has little to find: what the start made is set
    aside, and it looks for more only now and then. Saves a fifth of the time of a reserve.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)


def create_app(
    *,
    redis_url: str,
    durability: str = "local",
    auth: str = "off",
    worker: int = 0,
    replicas: int = 1,
    limits: Limits = DEFAULT,
) -> Application:
    """The application of a worker. `replicas` is for the tier `replicated`."""
    return Application(
        redis_url=redis_url,
        durability=durability,
        auth=auth,
        worker=worker,
        replicas=replicas,
        limits=limits,
    )
