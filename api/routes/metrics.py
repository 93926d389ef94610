"""What Prometheus scrapes."""

from collections.abc import Sequence

from fastapi import Request, Response

from api.counts_exchange import CountsExchange
from api.exposition import CONTENT_TYPE, render
from api.routes.exchange import Route


class Metrics:
    """Renders the counts of all workers, whichever of them was asked."""

    def __init__(self, exchange: CountsExchange) -> None:
        self._exchange = exchange

    def routes(self) -> Sequence[Route]:
        """What these handlers answer."""
        return (Route(("GET", "HEAD"), "/metrics", self.scrape),)

    async def scrape(self, request: Request) -> Response:  # noqa: ARG002 - every handler takes the request
        return Response(render(await self._exchange.gather()), headers={"content-type": CONTENT_TYPE})
