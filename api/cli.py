"""The command line. It declares options; what a command does is imported when it is called."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from api import limit_options
from api.cli_keys import keys
from api.limits import Limits
from api.options import (
    EPILOG,
    ApiKey,
    BaseUrl,
    DataDir,
    DataFile,
    Format,
    Json,
    Progress,
    RedisUrl,
    Replicas,
    told,
)
from api.settings import (
    Auth,
    BooksSettings,
    CheckSettings,
    ClientSettings,
    DoctorSettings,
    Durability,
    LoadSettings,
    RepartitionSettings,
    ReplaySettings,
    ServeSettings,
    SettingsError,
    Source,
    WorkerSettings,
)

USAGE_STATUS = 2
INTERRUPTED_STATUS = 130

app = typer.Typer(
    name="bincard",
    help="Real-time unified inventory: one atomic core that never promises a unit twice.",
    epilog=EPILOG,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version  # noqa: PLC0415 - start-up time

        typer.echo(f"bincard {version('bincard')}")
        raise typer.Exit


@app.callback()
def bincard(
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Real-time unified inventory: one atomic core that never promises a unit twice."""


@app.command(epilog=EPILOG)
def serve(
    *,
    host: Annotated[
        str | None,
        typer.Option(
            help="The address to listen on; loopback only with --auth off.", show_default="127.0.0.1"
        ),
    ] = None,
    port: Annotated[
        int | None, typer.Option(help="The port; 0 takes a free one.", show_default="8080")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="How many API processes.", show_default="1")] = None,
    redis_url: RedisUrl = None,
    data_dir: DataDir = None,
    durability: Annotated[
        Durability | None,
        typer.Option(
            help="What an acknowledged write survives: nothing, a crash, the loss of a server.",
            show_default="local",
        ),
    ] = None,
    replicas: Replicas = None,
    auth: Annotated[
        Auth | None, typer.Option(help="Whether callers need an API key.", show_default="off")
    ] = None,
    partitions: Annotated[
        int | None,
        typer.Option(help="Partitions of a new data set; an old one keeps its own.", show_default="1"),
    ] = None,
    max_body_bytes: limit_options.MaxBodyBytes = None,
    max_head_bytes: limit_options.MaxHeadBytes = None,
    max_connections: limit_options.MaxConnections = None,
    head_seconds: limit_options.HeadSeconds = None,
    body_seconds: limit_options.BodySeconds = None,
    unread_seconds: limit_options.UnreadSeconds = None,
    idle_seconds: limit_options.IdleSeconds = None,
    min_bytes_per_second: limit_options.MinBytesPerSecond = None,
    max_arriving_bytes: limit_options.MaxArrivingBytes = None,
    max_unread_bytes: limit_options.MaxUnreadBytes = None,
    requests_per_second: limit_options.RequestsPerSecond = None,
    request_burst: limit_options.RequestBurst = None,
) -> None:
    """Serve the API, with its background workers and, where no URL is given, a server of its own.

    SIGTERM lets the requests under way finish, then ends everything.
    """
    from api.logs import configure_logging  # noqa: PLC0415 - start-up time
    from api.supervisor import serve as run  # noqa: PLC0415 - start-up time

    settings = told(
        ServeSettings,
        host=host,
        port=port,
        workers=workers,
        redis_url=redis_url,
        data_dir=data_dir,
        durability=durability,
        replicas=replicas,
        auth=auth,
        partitions=partitions,
    )
    limits = told(
        Limits,
        max_body_bytes=max_body_bytes,
        max_head_bytes=max_head_bytes,
        max_connections=max_connections,
        head_seconds=head_seconds,
        body_seconds=body_seconds,
        unread_seconds=unread_seconds,
        idle_seconds=idle_seconds,
        min_bytes_per_second=min_bytes_per_second,
        max_arriving_bytes=max_arriving_bytes,
        max_unread_bytes=max_unread_bytes,
        requests_per_second=requests_per_second,
        request_burst=request_burst,
    )
    configure_logging("supervisor")
    raise typer.Exit(run(settings, limits))


@app.command(epilog=EPILOG)
def worker(
    *,
    redis_url: RedisUrl = None,
    data_dir: DataDir = None,
    metrics_host: Annotated[
        str | None,
        typer.Option(
            help="The address to tell metrics on; loopback only with --auth off.", show_default="127.0.0.1"
        ),
    ] = None,
    metrics_port: Annotated[
        int | None, typer.Option(help="The port of /metrics; 0 takes a free one.", show_default="8081")
    ] = None,
    auth: Annotated[
        Auth | None, typer.Option(help="Whether who reads metrics needs an API key.", show_default="off")
    ] = None,
) -> None:
    """Run background workers alone, beside those that `bincard serve` brings; any number may run."""
    from api.logs import configure_logging  # noqa: PLC0415 - start-up time
    from api.storage import running_url  # noqa: PLC0415 - start-up time
    from api.worker import run_alone  # noqa: PLC0415 - start-up time

    settings = told(
        WorkerSettings,
        redis_url=redis_url,
        data_dir=data_dir,
        metrics_host=metrics_host,
        metrics_port=metrics_port,
        auth=auth,
    )
    settings.check()
    configure_logging("worker")
    run_alone(running_url(settings), settings)


load = typer.Typer(
    help="Load a CSV or JSON Lines file; loading it again adds nothing.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(load, name="load")
app.add_typer(keys, name="keys")


@load.command(epilog=EPILOG)
def stock(
    file: DataFile,
    *,
    file_format: Format = None,
    url: BaseUrl = None,
    api_key: ApiKey = None,
    progress: Progress = None,
) -> None:
    """Load movements: columns sku, location, quantity and optionally kind, id, reason and others."""
    from api.commands.clients import load_file  # noqa: PLC0415 - start-up time

    settings = told(LoadSettings, file_format=file_format, url=url, api_key=api_key, progress=progress)
    raise typer.Exit(load_file("stock", file, settings))


@load.command(epilog=EPILOG)
def locations(
    file: DataFile,
    *,
    file_format: Format = None,
    url: BaseUrl = None,
    api_key: ApiKey = None,
    progress: Progress = None,
) -> None:
    """Load locations: columns id, kind and optionally name, lat, lon, priority and others."""
    from api.commands.clients import load_file  # noqa: PLC0415 - start-up time

    settings = told(LoadSettings, file_format=file_format, url=url, api_key=api_key, progress=progress)
    raise typer.Exit(load_file("locations", file, settings))


@load.command(epilog=EPILOG)
def pools(
    file: DataFile,
    *,
    file_format: Format = None,
    url: BaseUrl = None,
    api_key: ApiKey = None,
    progress: Progress = None,
) -> None:
    """Load pools: columns id and locations."""
    from api.commands.clients import load_file  # noqa: PLC0415 - start-up time

    settings = told(LoadSettings, file_format=file_format, url=url, api_key=api_key, progress=progress)
    raise typer.Exit(load_file("pools", file, settings))


@load.command(epilog=EPILOG)
def channels(
    file: DataFile,
    *,
    file_format: Format = None,
    url: BaseUrl = None,
    api_key: ApiKey = None,
    progress: Progress = None,
) -> None:
    """Load channels: columns id, pools and, in JSON Lines, buffer."""
    from api.commands.clients import load_file  # noqa: PLC0415 - start-up time

    settings = told(LoadSettings, file_format=file_format, url=url, api_key=api_key, progress=progress)
    raise typer.Exit(load_file("channels", file, settings))


@load.command(epilog=EPILOG)
def items(
    file: DataFile,
    *,
    file_format: Format = None,
    url: BaseUrl = None,
    api_key: ApiKey = None,
    progress: Progress = None,
) -> None:
    """Load items: columns sku and optionally name, unit, gtins and others."""
    from api.commands.clients import load_file  # noqa: PLC0415 - start-up time

    settings = told(LoadSettings, file_format=file_format, url=url, api_key=api_key, progress=progress)
    raise typer.Exit(load_file("items", file, settings))


@app.command(epilog=EPILOG)
def audit(*, redis_url: RedisUrl = None, data_dir: DataDir = None, json: Json = None) -> None:
    """Compare every count with the replay of the ledger.

    The exit status is 0 only if all are equal. Looks at the running server; where none runs on the
    data directory, one does for the duration.
    """
    from api.commands.books import audit as run  # noqa: PLC0415 - start-up time

    raise typer.Exit(run(told(BooksSettings, redis_url=redis_url, data_dir=data_dir, json=json)))


@app.command(epilog=EPILOG)
def explain(
    sku: Annotated[str, typer.Argument(metavar="SKU", help="The SKU.")],
    location: Annotated[
        str | None,
        typer.Argument(metavar="LOCATION", help="One location instead of all.", show_default=False),
    ] = None,
    *,
    redis_url: RedisUrl = None,
    data_dir: DataDir = None,
    json: Json = None,
) -> None:
    """Show the sum behind an availability, and who holds the units."""
    from api.commands.books import explain as run  # noqa: PLC0415 - start-up time

    settings = told(BooksSettings, redis_url=redis_url, data_dir=data_dir, json=json)
    raise typer.Exit(run(settings, sku, location))


@app.command(epilog=EPILOG)
def doctor(
    *,
    redis_url: RedisUrl = None,
    data_dir: DataDir = None,
    durability: Annotated[
        Durability | None, typer.Option(help="The durability tier to check against.", show_default="local")
    ] = None,
    replicas: Replicas = None,
    json: Json = None,
) -> None:
    """Check whether the server is set up for a durability tier.

    The exit status is 0 unless something forbids to serve.
    """
    from api.commands.books import doctor as run  # noqa: PLC0415 - start-up time

    settings = told(
        DoctorSettings,
        redis_url=redis_url,
        data_dir=data_dir,
        durability=durability,
        replicas=replicas,
        json=json,
    )
    raise typer.Exit(run(settings))


@app.command(epilog=EPILOG)
def check(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE", help="Recorded histories of one data set, or what BINCARD_HISTORY named."
        ),
    ],
    *,
    json: Json = None,
) -> None:
    """Check recorded histories: whether any answer that a caller got breaks a promise.

    Bincard records where the environment has BINCARD_HISTORY=FILE, a file for each process beside that one.
    The exit status is 0 if all is well, 1 if a promise was broken, 2 if there is nothing to check.
    """
    from api.commands.histories import check_histories  # noqa: PLC0415 - start-up time

    raise typer.Exit(check_histories(files, told(CheckSettings, json=json)))


@app.command(epilog=EPILOG)
def repartition(
    *,
    from_url: Annotated[
        str | None,
        typer.Option("--from", metavar="URL", help="The server or data directory that has the data set."),
    ] = None,
    to_url: Annotated[
        str | None,
        typer.Option("--to", metavar="URL", help="The empty server, or the new directory, that gets it."),
    ] = None,
    partitions: Annotated[int | None, typer.Option(help="Partitions of the data set there.")] = None,
) -> None:
    """Move a data set to an empty server, with another number of partitions, while nobody uses it.

    The old server is only read. The new one cannot be used until its books were audited and compared.
    The exit status is 0 if they are right, 1 if not or where nothing could be moved, 2 if an option is wrong.
    """
    from api.commands.moves import repartition as run  # noqa: PLC0415 - start-up time

    settings = told(RepartitionSettings, from_url=from_url, to_url=to_url, partitions=partitions)
    raise typer.Exit(run(settings))


@app.command(epilog=EPILOG)
def demo(*, url: BaseUrl = None, api_key: ApiKey = None) -> None:
    """Load a small demo stock and print a position worth asking for."""
    from api.commands.clients import demo as run  # noqa: PLC0415 - start-up time

    raise typer.Exit(run(told(ClientSettings, url=url, api_key=api_key)))


@app.command(epilog=EPILOG)
def replay(
    *,
    baskets: Annotated[int | None, typer.Option(help="How many baskets.", show_default="10000")] = None,
    clients: Annotated[int | None, typer.Option(help="How many clients at once.", show_default="64")] = None,
    speed: Annotated[
        float | None,
        typer.Option(help="Times faster than the baskets came; without it as fast as the clients go."),
    ] = None,
    url: BaseUrl = None,
    api_key: ApiKey = None,
    seed: Annotated[
        int | None, typer.Option(help="The seed of every random choice.", show_default="8451")
    ] = None,
    scarcity: Annotated[
        float | None, typer.Option(help="Stock per unit of demand.", show_default="0.9")
    ] = None,
    source: Annotated[
        Source | None,
        typer.Option(help="Real baskets, generated ones, or real ones where installed.", show_default="auto"),
    ] = None,
    survive_seconds: Annotated[
        float | None,
        typer.Option(help="How long a client repeats a request while the server is away.", show_default="0"),
    ] = None,
    timeout_seconds: Annotated[
        float | None, typer.Option(help="How long a client waits for an answer.", show_default="10")
    ] = None,
    json_file: Annotated[
        str | None, typer.Option("--json", metavar="FILE", help="Write the report as JSON, too.")
    ] = None,
    progress: Progress = None,
) -> None:
    """Send shop baskets as many clients at once, and prove that nothing was promised twice."""
    from api.commands.clients import replay_baskets  # noqa: PLC0415 - start-up time

    settings = told(
        ReplaySettings,
        baskets=baskets,
        clients=clients,
        speed=speed,
        url=url,
        api_key=api_key,
        seed=seed,
        scarcity=scarcity,
        source=source,
        survive_seconds=survive_seconds,
        timeout_seconds=timeout_seconds,
        json_file=json_file,
        progress=progress,
    )
    raise typer.Exit(replay_baskets(settings))


@app.command(context_settings={"ignore_unknown_options": True})
def bench(
    benchmark: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="canonical, micro, scale, partitions, http_api, open_model, overload, guards, hostile, "
            "crowd, peers, gate, report.",
        ),
    ] = "canonical",
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="ARGUMENT", help="Its own options; NAME -- --help shows them."),
    ] = None,
) -> None:
    """Run a benchmark of a checkout; without a name the one that prints two numbers and the proof."""
    from api.commands.bench import bench as run  # noqa: PLC0415 - start-up time

    raise typer.Exit(run(benchmark, arguments or []))


def main() -> None:
    """Runs the command line; whatever goes wrong is one line and an exit status."""
    try:
        app()
    except SettingsError as fault:
        _end(str(fault), USAGE_STATUS)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED_STATUS)
    except BrokenPipeError:
        # Whoever read our output has had enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as fault:
        if os.environ.get("BINCARD_TRACEBACK"):
            raise
        _end(_words_for(fault), 1)


def _words_for(fault: Exception) -> str:
    """The text of an exception of ours as it is; of another, with what it is and how to see more."""
    own = type(fault).__module__.partition(".")[0] in {"api", "engine"}
    if own or isinstance(fault, (OSError, ValueError)):
        return str(fault)
    kind = type(fault).__name__
    return f"{kind}: {fault}; this is a fault of Bincard, and BINCARD_TRACEBACK=1 shows where it is"


def _end(text: str, status: int) -> None:
    sys.stderr.write(f"bincard: {text.strip()}\n")
    sys.exit(status)
