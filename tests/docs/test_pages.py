"""What the documentation shows is what happens: its Python runs, block after block, on an empty server."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.service import Service, running
from tests.servers import SERVERS, Servers

PAGES = Path(__file__).parents[2] / "docs" / "concepts"
SHOWN = "http://127.0.0.1:8080"
"""The address that pages name."""


@pytest.fixture(params=["hot", "asgi"])
def service(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Service]:
    servers = Servers(tmp_path)
    try:
        with running(request.param, servers.start(SERVERS[0], "standalone").url) as worker:
            yield worker
    finally:
        servers.stop()


def blocks_of(page: Path) -> Iterator[tuple[int, str]]:
    """The Python of a page: each block with the line that it begins on."""
    first, lines = 0, list[str]()
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if first and line == "```":
            yield first, "\n".join(lines)
            first, lines = 0, []
        elif first:
            lines.append(line)
        elif line == "```python":
            first = number + 1


def test_use_cases(service: Service) -> None:
    page = PAGES / "use-cases.md"
    blocks, known = list(blocks_of(page)), dict[str, object]()
    assert len(blocks) > page.read_text(encoding="utf-8").count("\n## ")
    assert SHOWN in blocks[0][1]
    for first, source in blocks:
        # Empty lines before it: a failure then names the line of the page.
        moved = "\n" * (first - 1) + source.replace(SHOWN, service.url)
        exec(compile(moved, page, "exec"), known)
