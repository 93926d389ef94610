"""Compares a server with what the durability tier needs of it. A tier is a claim; this is its check."""

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from engine import keys
from engine.dataset import FORMAT, SECRET_SIZE, Dataset
from engine.errors import OutcomeError, StorageUnavailable
from engine.topology import Standalone

Durability = Literal["none", "local", "replicated"]

REDIS_FLOOR = (7, 0)
VALKEY_FLOOR = (8, 0)
MEMORY_WARNING_PERCENT = 80
SETTINGS = (
    "appendonly",
    "appendfsync",
    "no-appendfsync-on-rewrite",
    "aof-load-truncated",
    "maxmemory",
    "maxmemory-policy",
    "port",
    "tls-port",
    "save",
    "stop-writes-on-bgsave-error",
    "replica-read-only",
)


class Severity(StrEnum):
    """How bad a finding is. A refusal keeps the service from becoming ready."""

    OK = "ok"
    WARNING = "warning"
    REFUSAL = "refusal"


class Finding(Struct, frozen=True):
    """One thing that was looked at. `remedy` is empty where nothing need be done."""

    name: str
    severity: Severity
    found: str
    expected: str
    remedy: str = ""


def is_ready(findings: Sequence[Finding]) -> bool:
    """Whether nothing was found that forbids to take orders."""
    return all(finding.severity is not Severity.REFUSAL for finding in findings)


async def examine(dataset: Dataset, durability: Durability) -> list[Finding]:
    """Looks at the server's real settings, its health and the data set. Never raises for what it finds:
    a server that is out of reach, or that does not let us look, is a finding too.
    """
    findings: list[Finding] = []
    try:
        servers = await dataset.topology.servers()
    except StorageUnavailable as error:
        return [_refuse("server", error.detail, "a primary", "start the servers, or mend the address")]
    for server in servers:
        found = await _examine_server(server, durability)
        if durability == "replicated":
            found += await _examine_replicas(server, max(1, dataset.replicas))
        several = len(servers) > 1
        findings += [replace(one, found=f"{server.name}: {one.found}") for one in found] if several else found
    if any(finding.name == "server" for finding in findings):
        return findings
    findings.append(await _check_dataset(dataset))
    if durability == "replicated":
        findings.append(await _check_confirmation(dataset))
    return findings


async def _examine_server(server: Standalone, durability: Durability) -> list[Finding]:
    try:
        info = await server.server_info()
    except StorageUnavailable as error:
        return [
            _refuse(
                "server", error.detail, "an answer to INFO", "start the server, or permit INFO to the user"
            )
        ]
    findings = [_check_version(info), *_check_health(info, durability), _check_memory(info)]
    return [*findings, *await _check_settings(server, info, durability)]


async def _examine_replicas(server: Standalone, wanted: int) -> list[Finding]:
    """A primary's replicas: any of them may be the one that confirms, so all must keep what they have."""
    try:
        settings = await server.server_settings("min-replicas-to-write")
        replicas = await server.replicas()
    except StorageUnavailable as error:
        remedy = "permit INFO and CONFIG GET to the user"
        return [_refuse("replicas", error.detail, f"{wanted} or more", remedy)]
    least = settings.get("min-replicas-to-write", "0")
    findings = [
        _judge(
            "min-replicas-to-write",
            least,
            f"{wanted} or more",
            f"CONFIG SET min-replicas-to-write {wanted}, and in the server's file: without it a primary that "
            "was cut off goes on taking writes",
            is_fine=int(least) >= wanted,
        ),
        _judge(
            "replicas",
            f"{len(replicas)} connected",
            f"{wanted} or more",
            "start replicas, or mend the network between them and the primary",
            is_fine=len(replicas) >= wanted,
        ),
    ]
    for replica in replicas:
        try:
            found = await _examine_replica(replica)
        finally:
            await replica.close()
        findings += [replace(one, found=f"replica {replica.name}: {one.found}") for one in found]
    return findings


async def _examine_replica(replica: Standalone) -> list[Finding]:
    try:
        info, settings = await replica.server_info(), await replica.server_settings(*SETTINGS)
    except StorageUnavailable as error:
        remedy = "let this machine reach the replica, with the primary's user and password; or check by hand"
        return [_warn("replica", error.detail, "an answer", remedy)]
    return [
        *_check_local(settings, info),
        _check_setting(
            settings, "replica-read-only", "yes", "CONFIG SET replica-read-only yes: else it may differ"
        ),
        _check_setting(
            settings, "maxmemory-policy", "noeviction", "CONFIG SET maxmemory-policy noeviction, as elsewhere"
        ),
    ]


async def _check_confirmation(dataset: Dataset) -> Finding:
    """What settings promise, tried out."""
    expected = f"{max(1, dataset.replicas)} replicas confirm a write"
    try:
        await dataset.confirm()
    except OutcomeError as error:
        remedy = "see the replicas' logs; the user must be permitted WAIT"
        return _refuse("confirmation", error.detail, expected, remedy)
    return Finding("confirmation", Severity.OK, "they do", expected)


def _refuse(name: str, found: str, expected: str, remedy: str) -> Finding:
    return Finding(name, Severity.REFUSAL, found, expected, remedy)


def _warn(name: str, found: str, expected: str, remedy: str) -> Finding:
    return Finding(name, Severity.WARNING, found, expected, remedy)


def _judge(
    name: str,
    found: str,
    expected: str,
    remedy: str,
    *,
    is_fine: bool,
    otherwise: Severity = Severity.REFUSAL,
) -> Finding:
    if is_fine:
        return Finding(name, Severity.OK, found, expected)
    return Finding(name, otherwise, found, expected, remedy)


def _is_valkey(info: Mapping[str, str]) -> bool:
    return "valkey_version" in info


def _check_version(info: Mapping[str, str]) -> Finding:
    # Valkey reports the version of the Redis that it is compatible with as `redis_version`.
    family, floor = ("valkey", VALKEY_FLOOR) if _is_valkey(info) else ("redis", REDIS_FLOOR)
    version = info.get(f"{family}_version", "0")
    numbers = tuple(int(part) if part.isdigit() else 0 for part in version.split(".")[:2])
    return _judge(
        "version",
        f"{family} {version}",
        f"redis {REDIS_FLOOR[0]}.{REDIS_FLOOR[1]} or newer, valkey {VALKEY_FLOOR[0]} or newer",
        "use a newer server",
        is_fine=numbers >= floor,
    )


def _check_health(info: Mapping[str, str], durability: Durability) -> list[Finding]:
    aof, rdb = info.get("aof_last_write_status", "?"), info.get("rdb_last_bgsave_status", "?")
    return [
        _judge(
            "role",
            info.get("role", "?"),
            "master",
            "give the address of the primary",
            is_fine=info.get("role") == "master",
        ),
        _judge(
            "loading",
            "loading" if info.get("loading") == "1" else "loaded",
            "loaded",
            "wait until the server has read its files",
            is_fine=info.get("loading", "0") == "0",
        ),
        _judge(
            "aof_last_write_status",
            aof,
            "ok",
            "the disk of the append-only file is full or broken: mend it",
            is_fine=aof == "ok",
            otherwise=Severity.WARNING if durability == "none" else Severity.REFUSAL,
        ),
        _judge(
            "rdb_last_bgsave_status",
            rdb,
            "ok",
            "read the server's log: a snapshot or a rewrite of the append-only file failed",
            is_fine=rdb == "ok",
            otherwise=Severity.WARNING,
        ),
    ]


def _check_memory(info: Mapping[str, str]) -> Finding:
    used, limit = int(info.get("used_memory", "0")), int(info.get("maxmemory", "0"))
    expected = f"below {MEMORY_WARNING_PERCENT} % of maxmemory"
    if limit == 0:
        return Finding("memory", Severity.OK, f"{used} bytes used, no limit set", expected)
    percent = 100 * used // limit
    return _judge(
        "memory",
        f"{used} of {limit} bytes used, {percent} %",
        expected,
        "raise maxmemory: when it is used up, nothing new can be reserved",
        is_fine=percent < MEMORY_WARNING_PERCENT,
        otherwise=Severity.WARNING,
    )


async def _check_settings(
    topology: Standalone, info: Mapping[str, str], durability: Durability
) -> list[Finding]:
    try:
        settings = await topology.server_settings(*SETTINGS)
    except StorageUnavailable as error:
        remedy = "permit CONFIG GET to the user (ACL SETUSER … +config|get), so that the tier can be checked"
        if durability == "none":
            return [_warn("settings", error.detail, "CONFIG GET is permitted", remedy)]
        return [_refuse("settings", error.detail, "CONFIG GET is permitted", remedy)]
    findings = [
        _check_setting(
            settings,
            "maxmemory-policy",
            "noeviction",
            "CONFIG SET maxmemory-policy noeviction: any other policy deletes stock when memory is full",
        ),
        _check_snapshots(settings, info),
        await _check_access(topology, settings),
    ]
    return [*_DURABILITY_CHECKS[durability](settings, info), *findings]


def _check_setting(
    settings: Mapping[str, str],
    name: str,
    expected: str,
    remedy: str,
    otherwise: Severity = Severity.REFUSAL,
) -> Finding:
    found = settings.get(name, "unknown")
    return _judge(name, found, expected, remedy, is_fine=found == expected, otherwise=otherwise)


def _check_local(settings: Mapping[str, str], info: Mapping[str, str]) -> list[Finding]:
    return [
        _check_setting(settings, "appendonly", "yes", "CONFIG SET appendonly yes, and in the server's file"),
        _check_setting(
            settings,
            "appendfsync",
            "always",
            "CONFIG SET appendfsync always: with everysec a crash loses what was acknowledged; or run "
            "with durability none",
        ),
        _check_setting(
            settings,
            "no-appendfsync-on-rewrite",
            "no",
            "CONFIG SET no-appendfsync-on-rewrite no: otherwise always is not always",
        ),
        _check_setting(
            settings,
            "aof-load-truncated",
            "no",
            "CONFIG SET aof-load-truncated no, and repair a torn file with redis-check-aof --fix before a "
            "start: Redis 7.0 may bring half a transaction to life",
            # Valkey cuts a torn transaction off whole.
            Severity.WARNING if _is_valkey(info) else Severity.REFUSAL,
        ),
    ]


def _check_none(settings: Mapping[str, str], _: Mapping[str, str]) -> list[Finding]:
    found = f"appendonly {settings.get('appendonly', '?')}, appendfsync {settings.get('appendfsync', '?')}"
    return [Finding("appendonly", Severity.OK, found, "anything: the tier promises nothing")]


_DURABILITY_CHECKS: Mapping[Durability, Callable[[Mapping[str, str], Mapping[str, str]], list[Finding]]] = {
    "local": _check_local,
    "replicated": _check_local,
    "none": _check_none,
}


def _check_snapshots(settings: Mapping[str, str], info: Mapping[str, str]) -> Finding:
    """A failed snapshot stops all writes where the server is told so."""
    stops = settings.get("stop-writes-on-bgsave-error") == "yes" and bool(settings.get("save"))
    failed = info.get("rdb_last_bgsave_status") == "err"
    return _judge(
        "stop-writes-on-bgsave-error",
        f"{settings.get('stop-writes-on-bgsave-error', '?')}, save '{settings.get('save', '?')}', "
        f"last snapshot {info.get('rdb_last_bgsave_status', '?')}",
        "no failed snapshot stops the writes",
        "CONFIG SET stop-writes-on-bgsave-error no, or CONFIG SET save '', and mend the disk",
        is_fine=not (stops and failed),
    )


async def _check_access(topology: Standalone, settings: Mapping[str, str]) -> Finding:
    ports = [settings[name] for name in ("port", "tls-port") if settings.get(name, "0") != "0"]
    expected = "no TCP port, or a password for the default user"
    if not ports:
        return Finding("access", Severity.OK, "no TCP port", expected)
    remedy = "protect the default user by an aclfile: users set at run time are gone after a restart"
    try:
        flags = await topology.user_flags("default")
    except StorageUnavailable as error:
        return _warn("access", error.detail, expected, "permit ACL GETUSER to the user, or check by hand")
    is_open = "on" in flags and "nopass" in flags
    return _judge(
        "access",
        f"port {' and '.join(ports)}, default user {'without' if is_open else 'off or with'} password",
        expected,
        remedy,
        is_fine=not is_open,
        otherwise=Severity.WARNING,
    )


async def _check_dataset(dataset: Dataset) -> Finding:
    expected = f"format {FORMAT}, {dataset.partitions} partitions"
    remedy = "this is not the data set that was opened: check the address, then start again"
    try:
        fixed = await dataset.topology.read_hash(keys.dataset())
    except StorageUnavailable as error:
        return _refuse("dataset", error.detail, expected, "see the server's log")
    stored_format, partitions = fixed.get(b"format", b"?"), fixed.get(b"partitions", b"?")
    found = f"format {stored_format.decode()}, {partitions.decode()} partitions"
    is_whole = len(fixed.get(b"secret", b"")) == SECRET_SIZE
    return _judge(
        "dataset",
        found if is_whole else f"{found}, no secret",
        expected,
        remedy,
        is_fine=found == expected and is_whole,
    )
