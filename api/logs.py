"""How our processes log: one line an event, to the standard error, times in UTC.

A log tells what happened, not what a caller sent: of an exception it has the kinds and the places. Its text,
which may quote a request, is there with `BINCARD_TRACEBACK=1` only.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
import traceback
from collections.abc import Mapping
from typing import Any

TRACEBACK_VARIABLE = "BINCARD_TRACEBACK"


class SafeFormatter(logging.Formatter):
    """Keeps texts of exceptions to itself, and control characters from whoever reads the log."""

    def __init__(self, process: str, *, tells_texts: bool = False) -> None:
        super().__init__(
            f"%(asctime)s.%(msecs)03dZ %(levelname)s {process}[{os.getpid()}] %(name)s: %(message)s",
            datefmt="%Y-%m-%dT%H:%M:%S",
        )
        self.converter = time.gmtime
        self._tells_texts = tells_texts

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - its name in the standard library
        return escaped(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: ANN401, N802 - as in the standard library
        told = traceback.TracebackException(*ei)
        if self._tells_texts:
            return "\n".join(escaped(line) for line in "".join(told.format()).splitlines())
        lines: list[str] = []
        part: traceback.TracebackException | None = told
        while part is not None:
            kind = f"{part.exc_type.__module__}.{part.exc_type.__qualname__}"
            lines[:0] = [*"".join(part.stack.format()).splitlines(), kind]
            part = part.__cause__ or (None if part.__suppress_context__ else part.__context__)
        return "\n".join(lines)


def escaped(text: str) -> str:
    """Text in which every character can be seen."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def configure_logging(process: str) -> None:
    """Sends warnings of this process to the standard error, under its name, and who changed settings."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(SafeFormatter(process, tells_texts=os.environ.get(TRACEBACK_VARIABLE, "") == "1"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("bincard.changes").setLevel(logging.INFO)


def log_what_nobody_awaits() -> None:
    """Has the running loop log what nobody took, without the objects in which it is quoted."""

    def tell(_: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
        logging.getLogger("asyncio").error("%s", context["message"], exc_info=context.get("exception"))

    asyncio.get_running_loop().set_exception_handler(tell)
