from collections.abc import AsyncIterator, Mapping

import pytest
from redis import Redis

import engine
from engine import Inventory, keys
from engine.doctor import Finding, Severity, examine, is_ready
from engine.topology import Standalone
from engine.topology.embedded import EmbeddedServer

SOUND = {
    "appendonly": "yes",
    "appendfsync": "always",
    "no-appendfsync-on-rewrite": "no",
    "aof-load-truncated": "no",
    "maxmemory": "0",
    "maxmemory-policy": "noeviction",
    "save": "",
    "stop-writes-on-bgsave-error": "no",
}


@pytest.fixture
async def sound(inventory: Inventory, control: "Redis[bytes]") -> AsyncIterator[Inventory]:
    """A server whose settings keep the tier `local`; put back as they were afterwards."""
    before = {name: control.config_get(name)[name] for name in SOUND}
    for name, value in SOUND.items():
        control.config_set(name, value)
    yield inventory
    for name, value in before.items():
        control.config_set(name, value)


def named(findings: list[Finding], name: str) -> Finding:
    (finding,) = [finding for finding in findings if finding.name == name]
    return finding


async def test_a_sound_server_is_ready(sound: Inventory) -> None:
    findings = await examine(sound.dataset, "local")
    assert {finding.severity for finding in findings} == {Severity.OK}, findings
    assert is_ready(findings)
    assert not any(finding.remedy for finding in findings)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("appendonly", "no"),
        ("appendfsync", "everysec"),
        ("appendfsync", "no"),
        ("no-appendfsync-on-rewrite", "yes"),
        ("maxmemory-policy", "allkeys-lru"),
        ("maxmemory-policy", "volatile-ttl"),
    ],
)
async def test_a_setting_that_breaks_the_tier_is_refused(
    sound: Inventory, control: "Redis[bytes]", setting: str, value: str
) -> None:
    control.config_set(setting, value)
    findings = await examine(sound.dataset, "local")
    finding = named(findings, setting)
    assert (finding.severity, finding.found, finding.expected) == (Severity.REFUSAL, value, SOUND[setting])
    assert setting in finding.remedy
    assert not is_ready(findings)


@pytest.mark.parametrize("setting", ["appendonly", "appendfsync", "maxmemory-policy"])
async def test_the_tier_none_asks_for_memory_only(
    sound: Inventory, control: "Redis[bytes]", setting: str
) -> None:
    """It promises no durability, but stock must still not be evicted."""
    wrong = {"appendonly": "no", "appendfsync": "everysec", "maxmemory-policy": "allkeys-lru"}[setting]
    control.config_set(setting, wrong)
    assert is_ready(await examine(sound.dataset, "none")) is (setting != "maxmemory-policy")


async def test_a_torn_file_may_not_load_by_halves(
    sound: Inventory, control: "Redis[bytes]", server_name: str
) -> None:
    control.config_set("aof-load-truncated", "yes")
    finding = named(await examine(sound.dataset, "local"), "aof-load-truncated")
    assert finding.severity is (Severity.WARNING if server_name == "valkey" else Severity.REFUSAL)


async def test_memory_that_runs_out_is_told(sound: Inventory, control: "Redis[bytes]") -> None:
    used = int(control.info("memory")["used_memory"])
    control.config_set("maxmemory", used + used // 10)
    findings = await examine(sound.dataset, "local")
    assert named(findings, "memory").severity is Severity.WARNING
    assert is_ready(findings)


async def test_another_data_set_is_refused(sound: Inventory, control: "Redis[bytes]") -> None:
    control.hset(keys.dataset(), "partitions", "2")
    assert not is_ready(await examine(sound.dataset, "local"))
    control.delete(keys.dataset())
    assert named(await examine(sound.dataset, "local"), "dataset").severity is Severity.REFUSAL


async def test_a_user_who_may_not_look_is_a_finding(server: EmbeddedServer, control: "Redis[bytes]") -> None:
    """Refused for `local`, which cannot be checked; a warning for `none`."""
    control.execute_command("ACL", "SETUSER", "shop", "on", ">secret", "~*", "&*", "+@all", "-config")
    inventory = await engine.connect(server.url.replace("unix://", "unix://shop:secret@"))
    try:
        findings = await examine(inventory.dataset, "local")
        assert named(findings, "settings").severity is Severity.REFUSAL
        assert "config|get" in named(findings, "settings").remedy
        assert not is_ready(findings)
        assert is_ready(await examine(inventory.dataset, "none"))
    finally:
        await inventory.close()
        control.execute_command("ACL", "DELUSER", "shop")


async def test_a_server_out_of_reach_is_a_finding(sound: Inventory) -> None:
    real, sound.dataset.topology = sound.dataset.topology, Standalone("unix:///nowhere/server.sock")
    (finding,) = await examine(sound.dataset, "local")
    sound.dataset.topology = real
    assert (finding.name, finding.severity) == ("server", Severity.REFUSAL)


class Pretend(Standalone):
    """A server that says of itself what the test wants."""

    def __init__(self, topology: Standalone, info: Mapping[str, str], settings: Mapping[str, str]) -> None:
        super().__init__(topology.url)
        self.info = info
        self.settings = settings

    async def server_info(self) -> Mapping[str, str]:
        return {**await super().server_info(), **self.info}

    async def server_settings(self, *names: str) -> Mapping[str, str]:
        return {**await super().server_settings(*names), **self.settings}


@pytest.mark.parametrize(
    ("info", "settings", "name", "severity"),
    [
        ({"valkey_version": "7.2.9"}, {}, "version", Severity.REFUSAL),
        ({"valkey_version": "8.0.0", "redis_version": "7.2.4"}, {}, "version", Severity.OK),
        ({"aof_last_write_status": "err"}, {}, "aof_last_write_status", Severity.REFUSAL),
        ({"rdb_last_bgsave_status": "err"}, {}, "rdb_last_bgsave_status", Severity.WARNING),
        (
            {"rdb_last_bgsave_status": "err"},
            {"stop-writes-on-bgsave-error": "yes", "save": "60 1"},
            "stop-writes-on-bgsave-error",
            Severity.REFUSAL,
        ),
        ({"role": "slave"}, {}, "role", Severity.REFUSAL),
        ({"loading": "1"}, {}, "loading", Severity.REFUSAL),
        ({}, {"port": "6379"}, "access", Severity.WARNING),
    ],
)
async def test_what_cannot_be_provoked_is_pretended(
    sound: Inventory,
    info: Mapping[str, str],
    settings: Mapping[str, str],
    name: str,
    severity: Severity,
) -> None:
    real = sound.dataset.topology
    sound.dataset.topology = Pretend(real, info, settings)
    findings = await examine(sound.dataset, "local")
    assert named(findings, name).severity is severity
    assert is_ready(findings) is (severity is not Severity.REFUSAL)
    await sound.dataset.topology.close()
    sound.dataset.topology = real
