"""What a command was told, from wherever it was told: option, environment, file, default.

Every field of these Structs is an option of the command line (`data_dir` is `--data-dir`), an
environment variable (`BINCARD_DATA_DIR`) and a key of `bincard.toml` (`data_dir`), in this order of
precedence. The file is `bincard.toml` in the working directory, or the one that `BINCARD_CONFIG`
names. They are read once, when a command starts, and passed on.
"""

from __future__ import annotations

import difflib
import ipaddress
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, TypeVar, get_args, get_type_hints

import msgspec

from api.limits import Limits

CONFIG_VARIABLE = "BINCARD_CONFIG"
CONFIG_FILE = "bincard.toml"
PREFIX = "BINCARD_"
MAX_WORKERS = 256

_OPTIONS = {"json_file": "--json", "file_format": "--format", "from_url": "--from", "to_url": "--to"}
"""Options that are not spelt as their setting."""

Durability = Literal["none", "local", "replicated"]
Auth = Literal["off", "keys"]
Quantities = Literal["exact", "banded"]
Source = Literal["auto", "real", "generator"]
FileFormat = Literal["csv", "jsonl"]


class SettingsError(Exception):
    """A setting that cannot be used; the text names it, where it comes from, and the remedy."""


Count = Annotated[int, msgspec.Meta(description="a whole number above zero", ge=1)]
Factor = Annotated[float, msgspec.Meta(description="a number above zero", gt=0)]
Port = Annotated[
    int, msgspec.Meta(description="a whole number from 0 (any free port) to 65535", ge=0, le=65535)
]
Seconds = Annotated[float, msgspec.Meta(description="seconds, zero or more", ge=0)]
Url = Annotated[str, msgspec.Meta(description="a URL such as http://127.0.0.1:8080")]
ServerUrl = Annotated[str, msgspec.Meta(description="a URL such as redis://localhost:6379")]
Directory = Annotated[Path, msgspec.Meta(description="a directory")]
Place = Annotated[str, msgspec.Meta(description="a URL such as redis://localhost:6379, or a data directory")]
File = Annotated[Path, msgspec.Meta(description="a file")]
Switch = Annotated[bool, msgspec.Meta(description="true or false")]


class StorageSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where the stock is kept: on a server of yours, or by the embedded one in a directory."""

    redis_url: ServerUrl | None = None
    data_dir: Directory = Path("data")
    """Used where `redis_url` is None."""


class ServeSettings(StorageSettings, frozen=True, kw_only=True):
    """What `bincard serve` is told."""

    host: Annotated[str, msgspec.Meta(description="a host name or an address")] = "127.0.0.1"
    port: Port = 8080
    workers: Annotated[
        int, msgspec.Meta(description=f"a whole number from 1 to {MAX_WORKERS}", ge=1, le=MAX_WORKERS)
    ] = 1
    durability: Annotated[Durability, msgspec.Meta(description="none, local or replicated")] = "local"
    replicas: Count = 1
    """How many must have a write before it is answered; for the tier `replicated` alone."""
    auth: Annotated[Auth, msgspec.Meta(description="off or keys")] = "off"
    partitions: (
        Annotated[int, msgspec.Meta(description="a whole number from 1 to 16384", ge=1, le=16_384)] | None
    ) = None

    def check(self) -> None:
        """Refuses what does not go together. Raises `SettingsError`."""
        if self.auth == "off" and not is_loopback(self.host):
            raise SettingsError(
                f"--host {self.host}: with --auth off anyone who reaches that address could change the "
                "stock; use --auth keys, or 127.0.0.1, ::1 or localhost"
            )
        if self.durability == "replicated" and self.redis_url is None:
            raise SettingsError(
                "--durability replicated: the embedded server has no replicas; name servers that have with "
                "--redis-url, or use --durability local"
            )


class WorkerSettings(StorageSettings, frozen=True, kw_only=True):
    """What `bincard worker` is told."""

    metrics_host: Annotated[str, msgspec.Meta(description="a host name or an address")] = "127.0.0.1"
    metrics_port: Port = 8081
    auth: Annotated[Auth, msgspec.Meta(description="off or keys")] = "off"

    def check(self) -> None:
        """Refuses what does not go together. Raises `SettingsError`."""
        if self.auth == "off" and not is_loopback(self.metrics_host):
            raise SettingsError(
                f"--metrics-host {self.metrics_host}: with --auth off anyone who reaches that address could "
                "see the shop's figures; use --auth keys, or 127.0.0.1, ::1 or localhost"
            )


class BooksSettings(StorageSettings, frozen=True, kw_only=True):
    """What the commands are told that look into the stored books."""

    json: Switch = False


class KeySettings(BooksSettings, frozen=True, kw_only=True):
    """What `bincard keys create` and `bincard keys rotate` are told. Lists are separated by commas."""

    scope: Annotated[str, msgspec.Meta(description="scopes, as availability:read,stock:read")] | None = None
    location: Annotated[str, msgspec.Meta(description="ids of locations")] | None = None
    channel: Annotated[str, msgspec.Meta(description="ids of channels")] | None = None
    quantities: Annotated[Quantities, msgspec.Meta(description="exact or banded")] = "exact"
    expires_at: Annotated[str, msgspec.Meta(description="a time, as 2027-01-01T00:00:00Z")] | None = None
    key_requests_per_second: (
        Annotated[int, msgspec.Meta(description="a whole number from 1 on", ge=1)] | None
    ) = None
    grace_seconds: Annotated[int, msgspec.Meta(description="whole seconds, zero or more", ge=0)] = 0


class RepartitionSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What `bincard repartition` is told."""

    from_url: Place | None = None
    to_url: Place | None = None
    partitions: (
        Annotated[int, msgspec.Meta(description="a whole number from 1 to 16384", ge=1, le=16_384)] | None
    ) = None


class CheckSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What `bincard check` is told."""

    json: Switch = False


class DoctorSettings(BooksSettings, frozen=True, kw_only=True):
    """What `bincard doctor` is told."""

    durability: Annotated[Durability, msgspec.Meta(description="none, local or replicated")] = "local"
    replicas: Count = 1


class ClientSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the commands are told that talk to a running server."""

    url: Url = "http://127.0.0.1:8080"
    api_key: Annotated[str, msgspec.Meta(description="an API key")] | None = None
    progress: Switch = True


class LoadSettings(ClientSettings, frozen=True, kw_only=True):
    """What `bincard load` is told."""

    file_format: Annotated[FileFormat, msgspec.Meta(description="csv or jsonl")] | None = None


class ReplaySettings(ClientSettings, frozen=True, kw_only=True):
    """What `bincard replay` is told."""

    baskets: Count = 10_000
    clients: Count = 64
    speed: Factor | None = None
    seed: Annotated[int, msgspec.Meta(description="a whole number")] = 8451
    scarcity: Factor = 0.9
    survive_seconds: Seconds = 0.0
    timeout_seconds: Factor = 10.0
    source: Annotated[Source, msgspec.Meta(description="auto, real or generator")] = "auto"
    json_file: File | None = None


ALL = (
    ServeSettings,
    WorkerSettings,
    Limits,
    CheckSettings,
    KeySettings,
    RepartitionSettings,
    DoctorSettings,
    LoadSettings,
    ReplaySettings,
)
Told = TypeVar("Told", bound=msgspec.Struct)


class _Given(NamedTuple):
    """A value, who gave it as a person reads it, and its place in the order of precedence."""

    value: object
    label: str
    rank: int


def read_settings(
    kind: type[Told],
    options: Mapping[str, object],
    environment: Mapping[str, str],
    directory: Path,
) -> Told:
    """Builds the settings of a command; an option of None was not given.

    Raises `SettingsError`.
    """
    file, keys = _read_file(environment, directory)
    given: dict[str, _Given] = {}
    for name in kind.__struct_fields__:
        for found in _sources(name, options, environment, file, keys):
            given[name] = found
            break
    _choose_storage(given)
    rules = get_type_hints(kind, include_extras=True)
    return kind(**{name: _convert(found, rules[name]) for name, found in given.items()})


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the host; a name other than localhost does not count."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def variable_of(name: str) -> str:
    """The environment variable of a setting."""
    return PREFIX + name.upper()


def option_of(name: str) -> str:
    """The option of a setting."""
    return _OPTIONS.get(name) or "--" + name.replace("_", "-")


def _sources(
    name: str,
    options: Mapping[str, object],
    environment: Mapping[str, str],
    file: Path,
    keys: Mapping[str, object],
) -> Iterator[_Given]:
    """Who gave a value for a setting, the strongest first; an empty variable gives none."""
    option = options.get(name)
    if option is not None:
        yield _Given(option, option_of(name), 0)
    variable = environment.get(variable_of(name), "")
    if variable:
        yield _Given(variable, variable_of(name), 1)
    if name in keys:
        yield _Given(keys[name], f"{name} in {file}", 2)


def _choose_storage(given: dict[str, _Given]) -> None:
    """Of a URL and a directory the stronger source decides; two of one source contradict."""
    url, directory = given.get("redis_url"), given.get("data_dir")
    if url is None or directory is None:
        return
    if url.rank == directory.rank:
        raise SettingsError(f"{url.label} and {directory.label} exclude each other: leave one out")
    del given["redis_url" if directory.rank < url.rank else "data_dir"]


def _convert(found: _Given, rule: object) -> object:
    try:
        return msgspec.convert(found.value, rule, strict=False, dec_hook=_path)
    except msgspec.ValidationError as bad:
        remedy = _words(rule) or str(bad)
        if isinstance(found.value, str) and found.value.startswith("tcp://"):
            # A Service of that name makes Kubernetes set BINCARD_PORT=tcp://… in every pod.
            remedy += "; if Kubernetes set it, give the pod enableServiceLinks: false"
        raise SettingsError(f"{found.label} is {found.value!r}: it must be {remedy}") from None


def _path(kind: type, value: object) -> object:
    if kind is Path and isinstance(value, (str, Path)) and str(value):
        return Path(value)
    raise msgspec.ValidationError("no path")


def _words(rule: object) -> str:
    """The description among the annotations of a type or of its parts."""
    for meta in getattr(rule, "__metadata__", ()):
        if isinstance(meta, msgspec.Meta) and meta.description:
            return meta.description
    return next((words for part in get_args(rule) if (words := _words(part))), "")


def _read_file(environment: Mapping[str, str], directory: Path) -> tuple[Path, Mapping[str, object]]:
    """The configuration file and its keys; a file that nobody named may be absent."""
    named = environment.get(CONFIG_VARIABLE, "")
    path = directory / (named or CONFIG_FILE)
    try:
        keys = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if named:
            raise SettingsError(f"{CONFIG_VARIABLE} names {path}, which does not exist") from None
        return path, {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as fault:
        raise SettingsError(f"{path} cannot be read: {fault}") from None
    known = sorted({name for kind in ALL for name in kind.__struct_fields__})
    for key in keys:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            remedy = f"did you mean {near[0]}?" if near else f"the keys are {', '.join(known)}"
            raise SettingsError(f"{path}: there is no setting {key}; {remedy}")
    return path, keys
