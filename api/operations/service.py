"""The operations for those who run the service and those who read about it."""

from api import schemas
from api.operations.model import Operation, Parameter

_ASSET = Parameter("asset", "path", {"enum": ["docs.css", "docs.js"]}, "The file.", "docs.css")
_CODE = Parameter(
    "code", "path", {"type": "string", "pattern": "^[a-z_]+$"}, "The code.", "insufficient_stock"
)

SERVICE = (
    Operation(
        method="GET",
        path="/healthz",
        name="get_health",
        tag="Service",
        summary="Whether the process turns",
        answers={200: schemas.HealthAnswer},
        answer_example={"status": "ok"},
    ),
    Operation(
        method="GET",
        path="/readyz",
        name="get_readiness",
        tag="Service",
        summary="Whether it can do its work",
        description="503 with the reasons where it cannot.",
        answers={200: schemas.ReadyAnswer, 503: schemas.ReadyAnswer},
        answer_example={"status": "ready", "durability": "local", "worker": 0, "reasons": []},
    ),
    Operation(
        method="GET",
        path="/metrics",
        name="get_metrics",
        tag="Service",
        summary="Counters of all workers, for Prometheus",
        answers={200: "text/plain"},
    ),
    Operation(
        method="GET",
        path="/",
        name="get_start",
        tag="Documentation",
        summary="Leads to the documentation",
        answers={307: None},
    ),
    Operation(
        method="GET",
        path="/openapi.json",
        name="get_openapi",
        tag="Documentation",
        summary="This document",
        answers={200: "application/json"},
    ),
    Operation(
        method="GET",
        path="/docs",
        name="get_docs",
        tag="Documentation",
        summary="This document as a page",
        answers={200: "text/html"},
    ),
    Operation(
        method="GET",
        path="/docs/{asset}",
        name="get_docs_asset",
        tag="Documentation",
        summary="What the page needs",
        parameters=(_ASSET,),
        answers={200: "*/*"},
        problems=("not_found",),
    ),
    Operation(
        method="GET",
        path="/problems/{code}",
        name="get_problem",
        tag="Documentation",
        summary="What a problem means and what to do about it",
        description="A page where the request accepts text/html.",
        parameters=(_CODE,),
        answers={200: schemas.ProblemKindAnswer},
        problems=("not_found",),
    ),
)
