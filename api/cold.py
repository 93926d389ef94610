"""The cold side: FastAPI for everything but the hot routes."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from time import time

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.routing import Route as StarletteRoute

from api.admission import Admission
from api.counts_exchange import CountsExchange
from api.exposition import ServiceFacts
from api.gate import Gate
from api.metrics import HttpMetrics, WorkerCounts, worker_counts
from api.problems import ProblemError
from api.readiness import Readiness
from api.routes.changes import Changes
from api.routes.documentation import Documentation
from api.routes.exchange import ProblemRoute, Route, asked, problem_response
from api.routes.finding import Finding
from api.routes.health import Health
from api.routes.keys import Keys
from api.routes.metrics import Metrics
from api.routes.movements import Movements
from api.routes.nearby import Nearby
from api.routes.pickups import Pickups
from api.routes.plans import Plans
from api.routes.policies import Policies
from api.routes.settings import settings_routes
from api.routes.stock import Stock
from api.routes.supply import Supply
from api.routes.transfers import Transfers
from api.run_directory import RUN_DIRECTORY_VARIABLE
from api.watch import Watch
from engine import Inventory

NOT_FOUND, METHOD_NOT_ALLOWED = 404, 405


def create_cold_app(
    inventory: Inventory,
    http_metrics: HttpMetrics,
    admission: Admission,
    watch: Watch,
    gate: Gate,
    *,
    durability: str,
    worker: int,
) -> FastAPI:
    """The cold application of one worker. Its lifespan is entered before it serves."""

    def own_counts() -> WorkerCounts:
        return worker_counts(
            str(worker),
            http_metrics,
            inventory.metrics,
            admission,
            watch,
            is_connected=inventory.is_connected,
            is_ready=not readiness.reasons(),
            started_at=started_at,
        )

    started_at = time()
    directory = os.environ.get(RUN_DIRECTORY_VARIABLE)
    exchange = CountsExchange(Path(directory) if directory else None, f"worker-{worker}", own_counts)
    readiness = Readiness(inventory, durability)

    def facts() -> ServiceFacts:
        return ServiceFacts(version("bincard"), inventory.dataset.partitions, durability)

    @asynccontextmanager
    async def live(_: FastAPI) -> AsyncIterator[None]:
        await readiness.open()
        await exchange.open()
        yield
        await exchange.close()
        await readiness.close()

    app = FastAPI(
        title="Bincard",
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=live,
    )
    app.router.route_class = ProblemRoute
    routes: list[Route] = [
        *settings_routes(inventory),
        *Nearby(inventory).routes(),
        *Policies(inventory).routes(),
        *Movements(inventory).routes(),
        *Plans(inventory).routes(),
        *Stock(inventory).routes(),
        *Changes(inventory).routes(),
        *Pickups(inventory).routes(),
        *Finding(inventory).routes(),
        *Transfers(inventory).routes(),
        *Supply(inventory).routes(),
        *Keys(inventory, gate).routes(),
        *Health(readiness, durability=durability, worker=worker).routes(),
        *Metrics(exchange, facts).routes(),
        *Documentation(version("bincard"), asks_keys=gate.asks_keys).routes(),
    ]
    for route in routes:
        app.add_api_route(route.path, route.handler, methods=list(route.methods), response_model=None)
    app.add_exception_handler(HTTPException, _answer_unrouted)
    app.state.readiness = readiness
    app.state.limits = watch.limits
    app.state.gate = gate
    app.state.served = [(route.path, method) for route in routes for method in route.methods]
    """Path and method of each route."""
    return app


async def _answer_unrouted(request: Request, error: Exception) -> Response:
    """The problem of a request that no route takes."""
    status = getattr(error, "status_code", NOT_FOUND)
    path = asked(request).path
    if status == METHOD_NOT_ALLOWED:
        methods = ", ".join(sorted(_methods_of(request)))
        problem = ProblemError("method_not_allowed", f"{path} takes {methods}", headers={"Allow": methods})
    else:
        problem = ProblemError("not_found", f"there is nothing at {path}")
    return problem_response(problem, request)


def _methods_of(request: Request) -> set[str]:
    """The methods of every route on a path: each route knows its own only."""
    path = request.scope["path"]
    return {
        method
        for route in request.app.routes
        if isinstance(route, StarletteRoute) and route.path_regex.match(path)
        for method in route.methods or ()
    }
