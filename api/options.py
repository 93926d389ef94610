"""Options that several commands share. None means: not given, so something else may decide."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
import typer

from api.settings import FileFormat, read_settings

EPILOG = (
    "Every option is also an environment variable (--data-dir is BINCARD_DATA_DIR) and a key of "
    "bincard.toml (data_dir) in the working directory or at BINCARD_CONFIG; an option wins over the "
    "environment, the environment over the file."
)
RedisUrl = Annotated[
    str | None,
    typer.Option(
        "--redis-url",
        metavar="URL",
        help="The server that holds the stock: redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://.",
    ),
]
Replicas = Annotated[
    int | None,
    typer.Option(
        help="How many replicas must have a write before it is answered; for --durability replicated.",
        show_default="1",
    ),
]
DataDir = Annotated[
    str | None,
    typer.Option(
        "--data-dir",
        metavar="DIR",
        help="The directory of the embedded server, used where no URL is given.",
        show_default="data",
    ),
]
BaseUrl = Annotated[
    str | None,
    typer.Option("--url", help="The running Bincard to talk to.", show_default="http://127.0.0.1:8080"),
]
ApiKey = Annotated[
    str | None,
    typer.Option(
        "--api-key",
        help="The API key, where one is asked for; rather in BINCARD_API_KEY, as arguments can be seen.",
    ),
]
Progress = Annotated[
    bool | None,
    typer.Option("--progress/--no-progress", help="Show progress on a terminal.", show_default="progress"),
]
Json = Annotated[bool | None, typer.Option("--json", help="Print JSON instead of text.", show_default=False)]

DataFile = Annotated[
    Path, typer.Argument(metavar="FILE", help="A .csv, .jsonl or .ndjson file.", exists=True, dir_okay=False)
]
Format = Annotated[
    FileFormat | None, typer.Option("--format", help="The format, where the file's name does not tell it.")
]

Told = TypeVar("Told", bound=msgspec.Struct)


def told(kind: type[Told], **options: object) -> Told:
    """The settings of a command from its options and everything else that may give them."""
    return read_settings(kind, options, os.environ, Path())
