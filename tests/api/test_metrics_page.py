from pathlib import Path

from api.metrics_page import page

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "metrics.md"


def test_the_page_on_metrics_is_up_to_date() -> None:
    """Whoever changes a metric changes what is said of it."""
    assert PAGE.read_text(encoding="utf-8") == page(), (
        "run: .venv/bin/python -m api.metrics_page > docs/reference/metrics.md"
    )
