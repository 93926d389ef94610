"""Throws changed bytes at a target and keeps those that reach new lines: `python -m tests.fuzz.run words`.

Everything is decided by the seed and the number of rounds. What makes a target raise is written to a file
and named. `with_atheris` does the same by libFuzzer.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any

from tests.fuzz.targets import SEEDS, TARGETS, Target

OURS = tuple(str(Path(__file__).parents[2] / folder) for folder in ("api", "engine"))
LONGEST = 4096
MOST_KEPT = 3000
_WORDS = (
    *(b"\x00", b"\xff" * 4, b"\r\n", b"\r\n\r\n", b'"', b"{", b"[", b"%", b"$", b"*", b","),
    *(b"0", b"-1", b"1e999", b"99999999999999999999", b"null", b"true", b"lines", b"sku"),
    *(b"\xed\xa0\x80", b"\xe2\x80\xae", b"\\ud800"),
    *(b"Content-Length: ", b"Transfer-Encoding: chunked\r\n", b"HTTP/1.1"),
)


class Coverage:
    """The steps from line to line, in our code, that a run took."""

    def __init__(self) -> None:
        self.steps: set[tuple[object, int, int]] = set()

    def run(self, target: Target, raw: bytes) -> bool:
        """Whether it took a step that no run before had taken."""
        before = len(self.steps)
        sys.settrace(self._enter)
        try:
            target(raw)
        finally:
            sys.settrace(None)
        return len(self.steps) > before

    def _enter(self, frame: FrameType, event: str, _: object) -> Any:  # noqa: ANN401 - a function like itself
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(OURS):
            return None
        last, add = 0, self.steps.add

        def step(frame: FrameType, _event: str, _: object) -> Any:  # noqa: ANN401 - same
            nonlocal last
            line = frame.f_lineno
            add((code, last, line))
            last = line
            return step

        return step


def changed(raw: bytes, other: bytes, chance: Random) -> bytes:
    """Bytes that are a little different."""
    found = bytearray(raw)
    for _ in range(chance.choice((1, 1, 2, 4, 8))):
        at = chance.randrange(len(found) + 1)
        match chance.randrange(7):
            case 0 if found:
                found[at % len(found)] ^= 1 << chance.randrange(8)
            case 1:
                found[at:at] = chance.choice(_WORDS)
            case 2:
                del found[at : at + chance.randrange(1, 9)]
            case 3:
                found[at:at] = found[at : at + chance.randrange(1, 64)] * chance.randrange(1, 5)
            case 4:
                found[at:] = other[chance.randrange(len(other) + 1) :]
            case 5 if found:
                found[at % len(found)] = chance.randrange(256)
            case _:
                found[at:at] = chance.randbytes(chance.randrange(1, 5))
    return bytes(found[:LONGEST])


def fuzz(name: str, *, seconds: float, seed: int, rounds: int | None = None) -> tuple[int, int, int]:
    """Rounds, kept inputs and steps reached. Raises what the target raises, with the bytes in a note."""
    target, chance, coverage = TARGETS[name], Random(seed), Coverage()
    kept = list(SEEDS[target])
    for raw in kept:
        _try(coverage, target, raw)
    end, done = time.monotonic() + seconds, 0
    while time.monotonic() < end and (rounds is None or done < rounds):
        raw = changed(chance.choice(kept), chance.choice(kept), chance)
        done += 1
        if _try(coverage, target, raw) and len(kept) < MOST_KEPT:
            kept.append(raw)
    return done, len(kept), len(coverage.steps)


def _try(coverage: Coverage, target: Target, raw: bytes) -> bool:
    try:
        return coverage.run(target, raw)
    except Exception as error:
        error.add_note(f"{target.__name__} was given {raw!r}")
        raise


def main(words: Sequence[str]) -> int:
    """1 where a target raised."""
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=8451)
    told = parser.parse_args(words)
    try:
        done, kept, steps = fuzz(told.target, seconds=60 * told.minutes, seed=told.seed)
    except Exception as error:
        note = " ".join(getattr(error, "__notes__", ()))
        path = Path(f"fuzz-{told.target}-{sha256(note.encode()).hexdigest()[:8]}.txt")
        path.write_text(note, encoding="utf-8")
        sys.stderr.write(f"{told.target}: {type(error).__name__}; what it was given is in {path}\n")
        raise
    sys.stdout.write(f"{told.target}: {done} rounds, {kept} inputs kept, {steps} steps, no fault\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
