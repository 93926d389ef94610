"""What Prometheus scrapes."""

from collections.abc import Callable, Sequence

from fastapi import Request, Response

from api.counts_exchange import CountsExchange
from api.exposition import CONTENT_TYPE, ServiceFacts, render
from api.routes.exchange import Route


class Metrics:
    """Renders the counts of all workers, whichever of them was asked."""

    def __init__(self, exchange: CountsExchange, facts: Callable[[], ServiceFacts]) -> None:
        self._exchange = exchange
        self._facts = facts

    def routes(self) -> Sequence[Route]:
        """What these handlers answer."""
        return (Route(("GET", "HEAD"), "/metrics", self.scrape),)

    async def scrape(self, request: Request) -> Response:  # noqa: ARG002 - every handler takes the request
        text = render(await self._exchange.gather(), self._facts())
        return Response(text, headers={"content-type": CONTENT_TYPE})
