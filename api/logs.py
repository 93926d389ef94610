"""How our processes log: one line an event, to the standard error, times in UTC."""

from __future__ import annotations

import logging
import os
import sys
import time


def configure_logging(process: str) -> None:
    """Sends warnings of this process to the standard error, under its name, and who changed settings."""
    formatter = logging.Formatter(
        f"%(asctime)s.%(msecs)03dZ %(levelname)s {process}[{os.getpid()}] %(name)s: %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S",
    )
    formatter.converter = time.gmtime
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("bincard.changes").setLevel(logging.INFO)
