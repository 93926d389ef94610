"""Requests made up from the OpenAPI document, valid and invalid: the server keeps to what it says."""

import json
from pathlib import Path

from tests.api.examples import RESULT, ask_examples
from tests.api.service import Service

TIMEOUT_SECONDS = 280


def test_the_server_keeps_to_its_document(hot_service: Service, tmp_path: Path) -> None:
    """In small what `scripts/examples.py` does in large."""
    finished = ask_examples(hot_service, tmp_path, examples=5, timeout_seconds=TIMEOUT_SECONDS)
    assert finished.returncode == 0, finished.stdout + finished.stderr


def test_the_kept_outcome_has_no_failure() -> None:
    kept = json.loads(RESULT.read_text(encoding="utf-8"))
    assert kept["examples"] >= 200
    assert kept["exit_status"] == 0
    assert kept["ready_afterwards"]
