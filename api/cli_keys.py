"""`bincard keys`: makes, shows, rotates and revokes API keys of a data set, whether it is served or not."""

from __future__ import annotations

from typing import Annotated

import typer

from api.options import EPILOG, DataDir, Json, RedisUrl, told
from api.settings import BooksSettings, KeySettings, Quantities

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
        str | None,
        typer.Option(help="What it may do, as availability:read,stock:read; `all` for everything."),
    ] = None,
    location: Annotated[
        str | None, typer.Option(help="The locations it is good for, as s7,w1; all without.")
    ] = None,
    channel: Annotated[
        str | None, typer.Option(help="The channels it is good for, as web,app; all without.")
    ] = None,
    quantities: Annotated[
        Quantities | None,
        typer.Option(
            help="Shown as they are, or rounded down, to who may only ask and reserve.", show_default="exact"
        ),
    ] = None,
    expires_at: Annotated[
        str | None, typer.Option(help="When it ends, as 2027-01-01T00:00:00Z; never without.")
    ] = None,
    key_requests_per_second: Annotated[
        int | None, typer.Option(help="How often it may call; as often as everybody without.")
    ] = None,
    redis_url: RedisUrl = None,
    data_dir: DataDir = None,
    json: Json = None,
) -> None:
    """Make a key; it is printed once, alone, to the standard output."""
    from api.commands.keys import create as run  # noqa: PLC0415 - start-up time

    settings = told(
        KeySettings,
        scope=scope,
        location=location,
        channel=channel,
        quantities=quantities,
        expires_at=expires_at,
        key_requests_per_second=key_requests_per_second,
        redis_url=redis_url,
        data_dir=data_dir,
        json=json,
    )
    raise typer.Exit(run(settings, name))


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
        int | None,
        typer.Option(help="How long the secret before stays good beside the new one.", show_default="0"),
    ] = None,
    redis_url: RedisUrl = None,
    data_dir: DataDir = None,
    json: Json = None,
) -> None:
    """Give a key a new secret; it is printed once."""
    from api.commands.keys import rotate as run  # noqa: PLC0415 - start-up time

    settings = told(
        KeySettings, grace_seconds=grace_seconds, redis_url=redis_url, data_dir=data_dir, json=json
    )
    raise typer.Exit(run(settings, key))


@keys.command(epilog=EPILOG)
def revoke(key: KeyId, *, redis_url: RedisUrl = None, data_dir: DataDir = None) -> None:
    """End a key for good; every worker refuses it within five seconds."""
    from api.commands.keys import revoke as run  # noqa: PLC0415 - start-up time

    raise typer.Exit(run(told(BooksSettings, redis_url=redis_url, data_dir=data_dir), key))
