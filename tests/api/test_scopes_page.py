"""The page of scopes is that of the routes that are served."""

from pathlib import Path

from api.scopes_page import render

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "scopes.md"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(), (
        "run: .venv/bin/python -m api.scopes_page > docs/reference/scopes.md"
    )
