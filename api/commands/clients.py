"""The commands that talk to a running server: load, demo, replay. Each returns the exit status."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
from rich.console import Console

from api.demo import load_demo
from api.load import Kind, load, show
from api.replay import ReplayOptions, replay
from api.replay import show as show_replay
from api.replay.shop import ServerGoneError
from api.replay.stock import StockRefusedError
from api.settings import ClientSettings, LoadSettings, ReplaySettings

FAILURES = (ServerGoneError, StockRefusedError)
"""What a server that is away or refuses makes these commands raise; their text is for a person."""


def load_file(kind: Kind, path: Path, settings: LoadSettings) -> int:
    """Loads a file; 1 where a line was not loaded."""
    report = load(
        kind,
        path,
        url=settings.url,
        key=settings.api_key,
        file_format=settings.file_format,
        progress=settings.progress and sys.stderr.isatty(),
    )
    show(report, Console(soft_wrap=True))
    return 0 if report.ok else 1


def demo(settings: ClientSettings) -> int:
    """Loads the demo stock; prints a position worth asking for, as a line of JSON."""
    sample = load_demo(settings.url, settings.api_key)
    sys.stdout.write(msgspec.json.encode(sample).decode() + "\n")
    return 0


def replay_baskets(settings: ReplaySettings) -> int:
    """Replays baskets; 1 where the proof does not hold."""
    report = replay(
        ReplayOptions(
            url=settings.url,
            baskets=settings.baskets,
            clients=settings.clients,
            speed=settings.speed,
            seed=settings.seed,
            scarcity=settings.scarcity,
            key=settings.api_key,
            survive_s=settings.survive_seconds,
            timeout_s=settings.timeout_seconds,
            source=settings.source,
            json_file=settings.json_file,
            progress=settings.progress and sys.stderr.isatty(),
        )
    )
    show_replay(report)
    return 0 if report.ok else 1
