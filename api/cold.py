"""The cold side: FastAPI for everything but the hot routes."""

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.routing import Route as StarletteRoute

from api.metrics import HttpMetrics
from api.problems import ProblemError
from api.routes.exchange import ProblemRoute, Route, asked, problem_response
from api.routes.health import Health, Readiness
from api.routes.locations import Locations
from api.routes.movements import Movements
from api.routes.stock import Stock
from engine import Inventory

NOT_FOUND, METHOD_NOT_ALLOWED = 404, 405


def create_cold_app(
    inventory: Inventory, http_metrics: HttpMetrics, *, durability: str, worker: int
) -> FastAPI:
    """The cold application of one worker. Its lifespan must be entered before it serves."""
    app = FastAPI(title="Bincard", openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.router.route_class = ProblemRoute
    readiness = app.state.readiness = Readiness(inventory)
    routes: list[Route] = [
        *Locations(inventory).routes(),
        *Movements(inventory).routes(),
        *Stock(inventory).routes(),
        *Health(readiness, durability=durability, worker=worker).routes(),
    ]
    for route in routes:
        app.add_api_route(route.path, route.handler, methods=list(route.methods), response_model=None)
    app.add_exception_handler(HTTPException, _answer_unrouted)
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
