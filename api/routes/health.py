"""Whether the process turns, and whether it can do its work."""

from collections.abc import Sequence
from typing import Literal

from fastapi import Request, Response

from api.readiness import Readiness
from api.routes.exchange import Route, json_response
from api.schemas import HealthAnswer, ReadyAnswer


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
        return json_response(200, HealthAnswer("ok"))

    async def ready(self, request: Request) -> Response:  # noqa: ARG002 - same
        reasons = self._readiness.reasons()
        if not reasons:
            return json_response(200, ReadyAnswer("ready", self._durability, self._worker, []))
        status: Literal["draining", "not_ready"] = "draining" if self._readiness.is_draining else "not_ready"
        answer = ReadyAnswer(status, self._durability, self._worker, reasons)
        return json_response(503, answer, {"Retry-After": "1"})
