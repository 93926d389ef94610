"""`bincard keys`: makes, shows, rotates and revokes API keys of a data set, whether it is served or not."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from api.options import EPILOG, DataDir, Json, RedisUrl, told
from api.settings import BooksSettings

keys = typer.Typer(
    help="Make, show, rotate and revoke API keys.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
KeyId = Annotated[str, typer.Argument(metavar="KEY", help="The id of the key, as `keys list` shows it.")]


@keys.command(epilog=EPILOG)
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the key is for.")],
    *,
    scope: Annotated[
        list[str],
        typer.Option(help="What it may do, as availability:read; repeat it; `all` for everything."),
    ],
    location: Annotated[
        list[str] | None, typer.Option(help="The location it is good for; repeat it; all without.")
    ] = None,
    channel: Annotated[
        list[str] | None, typer.Option(help="The channel it is good for; repeat it; all without.")
    ] = None,
    quantities: Annotated[
        str, typer.Option(help="`exact`, or `banded`: rounded down, for who may only ask and reserve.")
    ] = "exact",
    expires_at: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M:%S.%f%z"],
            help="When it ends, as 2027-01-01T00:00:00Z; never without.",
        ),
    ] = None,
    redis_url: RedisUrl = None,
    data_dir: DataDir = None,
    json: Json = None,
) -> None:
    """Make a key; it is printed once, alone, to the standard output."""
    from api.commands.keys import create as run  # noqa: PLC0415 - start-up time

    asked = {
        "name": name,
        "scopes": scope,
        "locations": location or None,
        "channels": channel or None,
        "quantities": quantities,
        "expires_at": expires_at,
    }
    settings = told(BooksSettings, redis_url=redis_url, data_dir=data_dir, json=json)
    raise typer.Exit(run(settings, asked))


@keys.command("list", epilog=EPILOG)
def list_(*, redis_url: RedisUrl = None, data_dir: DataDir = None, json: Json = None) -> None:
    """Show all keys, those that have ended among them, without what proves them."""
    from api.commands.keys import list_keys as run  # noqa: PLC0415 - start-up time

    raise typer.Exit(run(told(BooksSettings, redis_url=redis_url, data_dir=data_dir, json=json)))


@keys.command(epilog=EPILOG)
def rotate(
    key: KeyId,
    *,
    grace_seconds: Annotated[
        int, typer.Option(help="How long the secret before stays good beside the new one.")
    ] = 0,
    redis_url: RedisUrl = None,
    data_dir: DataDir = None,
    json: Json = None,
) -> None:
    """Give a key a new secret; it is printed once."""
    from api.commands.keys import rotate as run  # noqa: PLC0415 - start-up time

    settings = told(BooksSettings, redis_url=redis_url, data_dir=data_dir, json=json)
    raise typer.Exit(run(settings, key, grace_seconds))


@keys.command(epilog=EPILOG)
def revoke(key: KeyId, *, redis_url: RedisUrl = None, data_dir: DataDir = None) -> None:
    """End a key for good; every worker refuses it within five seconds."""
    from api.commands.keys import revoke as run  # noqa: PLC0415 - start-up time

    raise typer.Exit(run(told(BooksSettings, redis_url=redis_url, data_dir=data_dir), key))
