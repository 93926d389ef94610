"""`bincard repartition`: moves a data set to another number of partitions. Returns the exit status."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from api.replay.run import run_loop
from api.settings import RepartitionSettings, SettingsError
from engine.repartition import Repartitioned
from engine.repartition import repartition as move
from engine.topology.embedded import EmbeddedServer, find_running


def repartition(settings: RepartitionSettings) -> int:
    """Moves, a line for each stage; 0 only if the new data set is right."""
    source, target, partitions = settings.from_url, settings.to_url, settings.partitions
    if source is None or target is None or partitions is None:
        raise SettingsError("say which data set goes where: --from URL --to URL --partitions N")
    with _opened(source, is_new=False) as source_url, _opened(target, is_new=True) as target_url:
        moved = run_loop(move(source_url, target_url, partitions, tell=_write))
    _write(render_move(moved))
    return 0


def render_move(moved: Repartitioned) -> str:
    """What was moved, as text."""
    lines = []
    if moved.gave_way:
        lines.append(
            f"note: {moved.gave_way:,} answers are forgotten: others had the same id in another partition"
        )
    if moved.crossed:
        lines.append(f"note: {moved.crossed:,} promises are newer or older than they were on some card")
    lines.append(
        f"moved from {moved.before:,} to {moved.after:,} partitions: {moved.positions:,} positions, "
        f"{moved.reservations:,} reservations, {moved.answers:,} answers; {moved.events:,} events in "
        f"{moved.elapsed_seconds:.1f} s ({moved.events_per_second:,.0f} a second)"
    )
    lines.append("equal: the new data set is audited and holds what the old one held; use only the new one")
    return "\n".join(lines)


@contextmanager
def _opened(place: str, *, is_new: bool) -> Iterator[str]:
    """The URL of a server; where a directory is named, of the one that runs there for the duration."""
    if "://" in place:
        yield place
        return
    directory = Path(place)
    found = find_running(directory.resolve())
    if found is not None:
        yield found
        return
    if not is_new and not (directory / "appendonlydir").is_dir():
        raise SettingsError(f"there are no books in {place}: name a data directory or the URL of a server")
    with EmbeddedServer.start(directory) as server:
        yield server.url


def _write(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
