"""A cluster: `redis+cluster://`. Each partition lies in one slot, and each slot on one primary."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from itertools import chain
from logging import getLogger

from engine.errors import StorageUnavailable
from engine.topology.routed import NoPrimary, Routed, cancel_all, close_all
from engine.topology.slots import Node, SlotMap, read_nodes, slot_of
from engine.topology.standalone import Standalone
from engine.topology.url import Address, ServerUrl

log = getLogger("bincard.topology")

ASKED_NODES = 4
"""Nodes that are asked at a time for what they know of the others."""
ASK_TIMEOUT_SECONDS = 1.0
GRACE_SECONDS = 0.2
"""How long slower nodes are waited for once one has answered."""
SCANS = 3
"""Attempts at listing all keys while slots move."""


class Cluster(Routed):
    """The primaries of a cluster, and which of them has which slot at the moment."""

    default_partitions = 64

    def __init__(self, url: ServerUrl) -> None:
        self._url = url
        self._servers: dict[Address, Standalone] = {}
        self._turn = 0
        self.slots = SlotMap()

    @property
    def name(self) -> str:
        """The primaries."""
        return ", ".join(map(str, self.slots.primaries())) or "no primary"

    def server_at(self, address: Address) -> Standalone:
        """The client of one node."""
        server = self._servers.get(address)
        if server is None:
            server = Standalone(ServerUrl("standalone", (address,), self._url.access))
            self._servers[address] = server
        return server

    async def servers(self) -> Sequence[Standalone]:
        """The primaries that own slots."""
        if not self.slots.claims:
            await self.refresh()
        return [self.server_at(address) for address in sorted({claim[-1] for claim in self.slots.claims})]

    async def server_of(self, key: str) -> Standalone:
        """The primary that has a key."""
        if not self.slots.claims:
            await self.refresh()
        slot = slot_of(key.encode())
        owner = self.slots.owner(slot)
        if owner is None:
            raise NoPrimary(
                f"no node of the cluster serves slot {slot}: bring its primary back, or give the slot to "
                "another with CLUSTER ADDSLOTS"
            )
        return self.server_at(owner)

    async def look_again(self) -> None:
        """Asks the nodes who has which slot."""
        try:
            await self.refresh()
        except StorageUnavailable as error:
            log.warning("%s", error.detail)

    async def refresh(self) -> None:
        """Asks some nodes who has which slot, for a new map. Raises `NoPrimary` where none answers."""
        self.slots = SlotMap(await self._ask_nodes())

    async def scan_keys(self, pattern: str) -> AsyncIterator[str]:
        """Keys of all primaries that match, each at least once, begun anew where slots moved meanwhile."""
        for _ in range(SCANS):
            await self.refresh()
            scanned = self.slots
            for server in await self.servers():
                async for key in server.scan_keys(pattern):
                    yield key
            await self.refresh()
            if self.slots.claims == scanned.claims:
                return
        raise StorageUnavailable("slots kept moving while keys were listed: try again when they rest")

    async def close(self) -> None:
        """Closes the client's connections."""
        await close_all(self._servers.values())

    async def _ask_nodes(self) -> list[Node]:
        known = list(dict.fromkeys(chain(self.slots.nodes, self._url.addresses)))
        # Another few each time: one that is cut off from the rest must not be asked for ever.
        self._turn = (self._turn + 1) % len(known)
        known = known[self._turn :] + known[: self._turn]
        for first in range(0, len(known), ASKED_NODES):
            nodes = await self._ask_some(known[first : first + ASKED_NODES])
            if nodes:
                return nodes
        seeds = ", ".join(map(str, self._url.addresses))
        raise NoPrimary(
            f"no node of the cluster answers ({seeds}): check addresses, user and password, and that the "
            "user may call CLUSTER NODES; a server without cluster mode is redis://"
        )

    async def _ask_some(self, addresses: Sequence[Address]) -> list[Node]:
        asked = [asyncio.ensure_future(self._ask_one(address)) for address in addresses]
        try:
            waiting: set[asyncio.Future[list[Node]]] = set(asked)
            nodes: list[Node] = []
            while waiting:
                done, waiting = await asyncio.wait(
                    waiting,
                    timeout=GRACE_SECONDS if nodes else ASK_TIMEOUT_SECONDS,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if not done:
                    break
                nodes += chain.from_iterable(one.result() for one in done)
            return nodes
        finally:
            await cancel_all(asked)

    async def _ask_one(self, address: Address) -> list[Node]:
        """What a node knows; nothing where it does not answer."""
        try:
            async with asyncio.timeout(ASK_TIMEOUT_SECONDS):
                reply = await self.server_at(address).ask("CLUSTER", "NODES")
        except (StorageUnavailable, TimeoutError) as error:
            log.debug("%s does not tell its cluster: %s", address, error)
            return []
        text = reply.decode() if isinstance(reply, bytes) else str(reply)
        return list(read_nodes(text, address, by_name=self._url.access.tls is not None))
