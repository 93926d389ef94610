#!/usr/bin/env python3
"""Ask a worker thousands of requests made up from its OpenAPI document, valid and invalid, also in chains.

`python3 scripts/examples.py --examples 200` asks that many of each operation in each phase; `--seed S`
asks others. Exit status 1 where an answer was not what the document says.
"""

from __future__ import annotations

import sys

from _bootstrap import become

if __name__ == "__main__":
    become("tests.api.examples", sys.argv[1:])
