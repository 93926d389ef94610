"""The groups of `scripts/dev.py`, for tests: scripts/ is no package, so its folder is looked into last."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "scripts"))

from _groups import (
    SERVICE,
    ClusterGroup,
    Group,
    GroupError,
    Node,
    SentinelGroup,
    free_ports,
    has_replica,
    start_cluster,
    start_sentinels,
    wait_until,
)
from _resp import ServerError

__all__ = [
    "SERVICE",
    "ClusterGroup",
    "Group",
    "GroupError",
    "Node",
    "SentinelGroup",
    "ServerError",
    "free_ports",
    "has_replica",
    "start_cluster",
    "start_sentinels",
    "wait_until",
]
