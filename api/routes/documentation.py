"""The documentation that a server brings along: nothing of it is fetched from elsewhere."""

import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template

from fastapi import Request, Response

from api.openapi import build_document
from api.problems import PROBLEMS, ProblemError
from api.remedies import REMEDIES, RETRIES
from api.routes.exchange import Route, asked, json_response, path_value
from api.schemas import ProblemKindAnswer

FILES = Path(__file__).parent.parent / "docs"
ASSETS: Mapping[str, str] = {
    "docs.css": "text/css; charset=utf-8",
    "docs.js": "text/javascript; charset=utf-8",
}
"""The files of the page and their media types."""
HTML = "text/html; charset=utf-8"
_GUARDS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "referrer-policy": "no-referrer",
}


class Documentation:
    """Serves the OpenAPI document, a page that shows it, and a page for each problem."""

    def __init__(self, version: str, *, asks_keys: bool) -> None:
        self._openapi = build_document(version, asks_keys=asks_keys)
        self._page = (FILES / "index.html").read_bytes()
        self._problem = Template((FILES / "problem.html").read_text(encoding="utf-8"))
        self._assets = {name: (FILES / name).read_bytes() for name in ASSETS}

    def routes(self) -> Sequence[Route]:
        """What these handlers answer."""
        reads = ("GET", "HEAD")
        return (
            Route(reads, "/", self.start),
            Route(reads, "/openapi.json", self.openapi),
            Route(reads, "/docs", self.page),
            Route(reads, "/docs/{asset}", self.asset),
            Route(reads, "/problems/{code}", self.problem),
        )

    async def start(self, request: Request) -> Response:  # noqa: ARG002 - every handler takes the request
        return Response(status_code=307, headers={"location": "/docs"})

    async def openapi(self, request: Request) -> Response:  # noqa: ARG002 - same
        return Response(self._openapi, media_type="application/json")

    async def page(self, request: Request) -> Response:  # noqa: ARG002 - same
        return Response(self._page, headers={"content-type": HTML, **_GUARDS})

    async def asset(self, request: Request) -> Response:
        name = path_value(request, "asset")
        if name not in ASSETS:
            raise ProblemError("not_found", f"there is nothing at {asked(request).path}")
        return Response(self._assets[name], headers={"content-type": ASSETS[name], **_GUARDS})

    async def problem(self, request: Request) -> Response:
        """A page for a browser, JSON for everyone else."""
        code = path_value(request, "code")
        if code not in PROBLEMS:
            raise ProblemError("not_found", f"there is no problem {code}")
        row = PROBLEMS[code]
        answer = ProblemKindAnswer(
            f"/problems/{code}", row.title, row.status, code, row.retryable.value, REMEDIES[code]
        )
        if b"text/html" not in asked(request).headers.get(b"accept", b""):
            return json_response(200, answer, {"vary": "accept"})
        words = {name: _markup(str(getattr(answer, name))) for name in answer.__struct_fields__}
        page = self._problem.substitute(words, retry=_markup(RETRIES[row.retryable]))
        return Response(page, headers={"content-type": HTML, "vary": "accept", **_GUARDS})


def _markup(text: str) -> str:
    """Text as HTML, with `code` in backticks."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
