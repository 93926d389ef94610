"""Whether the process turns, and whether it can do its work."""

from collections.abc import Sequence

from fastapi import Request, Response

from api.routes.exchange import Route, json_response
from engine import Inventory


class Readiness:
    """What stands between this worker and its work, found out beforehand: asking costs nothing."""

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory
        self.is_draining = False
        self.findings: Sequence[str] = ()
        """What the doctor says of the server, where it would risk what is promised."""

    def reasons(self) -> list[str]:
        """Why the worker is not ready; none where it is."""
        reasons = list(self.findings)
        if self.is_draining:
            reasons.append("the server is about to stop")
        if not self._inventory.is_connected:
            reasons.append("there is no connection to the stock server")
        return reasons


class Health:
    """Answers whoever watches the process."""

    def __init__(self, readiness: Readiness, *, durability: str, worker: int) -> None:
        self._readiness = readiness
        self._durability = durability
        self._worker = worker

    def routes(self) -> Sequence[Route]:
        """What these handlers answer."""
        return (
            Route(("GET", "HEAD"), "/healthz", self.health),
            Route(("GET", "HEAD"), "/readyz", self.ready),
        )

    async def health(self, request: Request) -> Response:  # noqa: ARG002 - every handler takes the request
        return json_response(200, {"status": "ok"})

    async def ready(self, request: Request) -> Response:  # noqa: ARG002 - same
        reasons = self._readiness.reasons()
        status, word = (503, "not_ready") if reasons else (200, "ready")
        headers = {"Retry-After": "1"} if reasons else None
        content = {
            "status": word,
            "durability": self._durability,
            "worker": self._worker,
            "reasons": reasons,
        }
        return json_response(status, content, headers)
