"""Groups of real servers, as `scripts/dev.py` starts them, with the settings and users of deploy/."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.servers import find_program
from tests.topology.groups import SERVICE, ClusterGroup, SentinelGroup, start_cluster, start_sentinels

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
NOT_IN_REDIS = " +cluster|syncslots"
SENTINEL_SETTINGS = {
    f"sentinel auth-user {SERVICE}": "sentinel",
    f"sentinel auth-pass {SERVICE}": "change-me-sentinel",
}
ADMIN = ("admin", "change-me-admin")
US = "bincard:change-me-bincard@"
"""As whom the engine enters: with the least rights that it needs."""


@pytest.fixture(scope="module")
def deployed(server_name: str, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """Settings that take in those of deploy/."""
    return deployed_settings(server_name, tmp_path_factory.mktemp("users"))


def deployed_settings(server_name: str, folder: Path) -> dict[str, str]:
    """The same. A Redis does not know one right that Valkey 9 needs."""
    users = (DEPLOY / "users.acl").read_text(encoding="utf-8")
    file = folder / "users.acl"
    file.write_text(users if server_name == "valkey" else users.replace(NOT_IN_REDIS, ""), encoding="utf-8")
    return {"include": f'"{DEPLOY / "server.conf"}"', "aclfile": f'"{file}"', "maxmemory": "0"}


@pytest.fixture(scope="module")
def cluster(server_name: str, deployed: Mapping[str, str]) -> Iterator[ClusterGroup]:
    """Three primaries and three replicas with the settings of deploy/, shared by the tests of a module."""
    with start_cluster(find_program(server_name).path, settings=deployed, entry=ADMIN) as group:
        group.url = group.url.replace("://", f"://{US}")
        yield group


@pytest.fixture(scope="module")
def sentinels(server_name: str, deployed: Mapping[str, str]) -> Iterator[SentinelGroup]:
    """A primary, a replica and three Sentinels with the settings of deploy/, shared in the same way."""
    program = find_program(server_name).path
    with start_sentinels(
        program, settings=deployed, sentinel_settings=SENTINEL_SETTINGS, entry=ADMIN
    ) as group:
        group.url = group.url.replace("://", f"://{US}")
        yield group
