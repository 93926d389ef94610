"""Keeps the hot connections to a cluster: one to each primary, each request on that of its partition.

A node that does not have a slot says so before it does anything, so such a call is sent again elsewhere
without harm; a call whose answer was lost is not. See `docs/operating/topologies.md`.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from logging import getLogger

from engine import limits
from engine.errors import BincardError, Overloaded, StorageUnavailable
from engine.lane import Answer, Lane, Script, _Call
from engine.link import FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, Link
from engine.metrics import LaneMetrics
from engine.script import Library
from engine.topology import Cluster, Standalone, Topology
from engine.topology.slots import SlotMap, slot_of
from engine.topology.url import Address, read_address

log = getLogger("bincard.lane")

MOST_TRIES = 12
"""How often a call is sent elsewhere: about 1.7 s with the pauses between, about what a promotion takes."""
OPEN_SECONDS = 5.0
MOST_OPENING_SECONDS = 1.0
"""How long new owners of slots are given to let us in, before calls are meant for them."""
SHORTEST_WAIT_SECONDS = 0.005
LONGEST_WAIT_SECONDS = 0.2
WATCH_SECONDS = 1.0
"""How often the nodes are asked for the slots while all is well, and while something is not."""
TROUBLED_WATCH_SECONDS = 0.1
RETIRE_SECONDS = 1.0
"""How long a node that is no primary any more may answer what is under way."""

_ELSEWHERE = frozenset(("MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN"))
_ASKING = b"*1\r\n$6\r\nASKING\r\n"


class _Asking(_Call):
    """The word that lets a node serve a slot on its way to it; it goes before a call."""

    __slots__ = ()


class ClusterLane(Lane):
    """A lane to one node, which may send calls elsewhere."""

    redirect: Callable[[_Call, str], None]

    def send_again(self, call: _Call, *, is_asking: bool) -> None:
        """Sends a call that another node did not take. `is_asking` also where the slot is on its way here."""
        if self._transport is None:
            call.fail(StorageUnavailable("the connection was lost before the request was sent"))
            return
        self._waiting += len(call.arguments)
        if is_asking:
            if not self._under_way:
                self._sent_at = self._loop.time()
            self._under_way.append(_Asking(call.script))
            self._transport.write(_ASKING)
        self._write_turn([call])

    def _take_reply(self, reply: Answer) -> None:
        if isinstance(self._under_way[0], _Asking):
            # What is wrong with it, if anything, the call's own answer says too.
            self._under_way.popleft()
            return
        super()._take_reply(reply)

    def _take_error(self, call: _Call, text: str) -> None:
        if text.partition(" ")[0] in _ELSEWHERE:
            self._waiting -= len(call.arguments)
            self.redirect(call, text)
            return
        super()._take_error(call, text)


class NodeLink(Link):
    """The connection to one primary."""

    def __init__(
        self,
        server: Standalone,
        address: Address,
        library: Library,
        metrics: LaneMetrics,
        *,
        replicas: int,
        redirect: Callable[["NodeLink", _Call, str], None],
        lost: Callable[[], None],
    ) -> None:
        super().__init__(server, library, metrics, replicas=replicas)
        self.address = address
        self.error = "no connection yet"
        self._redirect = redirect
        self._lost = lost

    async def keep_opening(self) -> None:
        """Opens the connection, however long it takes."""
        pause = FIRST_PAUSE_SECONDS
        while not (self._is_closing or self.is_open):
            try:
                await self.open()
            except BincardError as error:
                self.error = str(error)
                log.warning("%s cannot be used yet: %s", self.address, error)
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def send_again(self, call: _Call, *, is_asking: bool = False) -> None:
        """See `ClusterLane.send_again`."""
        assert isinstance(self._lane, ClusterLane)
        self._lane.send_again(call, is_asking=is_asking)

    def _new_lane(self) -> Lane:
        lane = ClusterLane(
            greeting=self._greeting,
            load_library=self._load_library,
            metrics=self._metrics,
            replicas=self._replicas,
        )
        lane.redirect = lambda call, text: self._redirect(self, call, text)
        lane.closed.add_done_callback(lambda _: self._lost())
        return lane


class ClusterLink:
    """The hot connections to a cluster's primaries, for as long as the engine is open."""

    def __init__(
        self, topology: Cluster, library: Library, metrics: LaneMetrics, *, replicas: int = 0
    ) -> None:
        self._topology = topology
        self._library = library
        self._metrics = metrics
        self._replicas = replicas
        self._map = SlotMap()
        self._links: dict[Address, NodeLink] = {}
        self._routes: dict[Script, NodeLink] = {}
        self._slots: dict[Script, int] = {}
        self._requests_elsewhere = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._refreshing: asyncio.Task[None] | None = None
        self._is_stale = asyncio.Event()
        self._is_closing = False

    async def open(self) -> None:
        """Connects to every primary that has slots. Raises `StorageUnavailable` where that takes over 5 s."""
        ends = asyncio.get_running_loop().time() + OPEN_SECONDS
        try:
            await self._refresh()
            self._start(self._watch())
            while (lacking := self._lacking()) is not None:
                if asyncio.get_running_loop().time() > ends:
                    raise StorageUnavailable(lacking)
                await asyncio.sleep(SHORTEST_WAIT_SECONDS)
        except BaseException:
            await self.close()
            raise

    def _lacking(self) -> str | None:
        """What keeps us from sending calls to every slot that has an owner."""
        if not self._map.claims:
            return "no node of the cluster serves any slot"
        for *_, address in self._map.claims:
            link = self._links.get(address)
            if link is None or not link.is_open:
                return f"{address} cannot be used: {link.error if link else 'no connection yet'}"
        return None

    def submit(self, script: Script, argument: bytes, positions: int = 1) -> "asyncio.Future[Answer]":
        """See `Lane.submit`."""
        link = self._routes.get(script) or self._find(script)
        return _nowhere() if link is None else link.submit(script, argument, positions)

    def submit_many(
        self, script: Script, requests: Sequence[tuple[bytes, int]]
    ) -> "list[tuple[int, asyncio.Future[Answer]]]":
        """See `Lane.submit_many`."""
        link = self._routes.get(script) or self._find(script)
        return [(len(requests), _nowhere())] if link is None else link.submit_many(script, requests)

    @property
    def is_open(self) -> bool:
        """Whether there is a connection to every primary that has slots at this moment."""
        return self._lacking() is None

    @property
    def requests_stuck(self) -> int:
        """How many requests wait for nodes that have stopped to answer."""
        return sum(link.requests_stuck for link in self._links.values())

    async def close(self) -> None:
        """Closes the connections for good; what is under way becomes unknown."""
        self._is_closing = True
        ends = asyncio.get_running_loop().time() + OPEN_SECONDS
        # Cancelling once is not enough: the client may take it for a lost connection of its own.
        while self._tasks and asyncio.get_running_loop().time() < ends:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks, timeout=LONGEST_PAUSE_SECONDS)
        closing = [asyncio.ensure_future(link.close()) for link in self._links.values()]
        if closing:
            # A node that is gone does not keep us.
            await asyncio.wait(closing, timeout=OPEN_SECONDS)

    # ---------------------------------------------------------------- where things are

    def _find(self, script: Script) -> NodeLink | None:
        """The open connection to the primary that has a script's partition."""
        slot = self._slots.get(script)
        if slot is None:
            slot = self._slots[script] = slot_of(script.first_key.encode())
        owner = self._map.owner(slot)
        link = None if owner is None else self._links.get(owner)
        if link is None or not link.is_open:
            self._is_stale.set()
            return None
        self._routes[script] = link
        return link

    def _link_to(self, address: Address) -> NodeLink:
        link = self._links[address] = NodeLink(
            self._topology.server_at(address),
            address,
            self._library,
            self._metrics,
            replicas=self._replicas,
            redirect=self._redirect,
            lost=self._note_loss,
        )
        return link

    def _note_loss(self) -> None:
        self._routes.clear()
        self._is_stale.set()

    async def _watch(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(WATCH_SECONDS if self.is_open else TROUBLED_WATCH_SECONDS):
                    await self._is_stale.wait()
            self._is_stale.clear()
            try:
                await self._refresh()
            except Exception:
                log.exception("the cluster's answer could not be read; it is asked again")
            if not self.is_open:
                await asyncio.sleep(TROUBLED_WATCH_SECONDS)

    async def _refresh(self) -> None:
        """Asks the nodes who has which slot; all who want that at once share one answer."""
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = self._start(self._look())
        await asyncio.shield(self._refreshing)

    async def _look(self) -> None:
        try:
            await self._topology.refresh()
        except StorageUnavailable as error:
            log.warning("%s", error.detail)
            return
        # Cold questions refresh the map too: ours is compared with what it was when we looked last.
        found = self._topology.slots
        if found.is_like(self._map):
            self._map = found
            return
        primaries, linked = set(found.primaries()), set(self._links)
        owners, opening = {claim[-1] for claim in found.claims}, []
        for address in primaries - linked:
            log.warning("%s is a primary of the cluster now", address)
            task = self._start(self._link_to(address).keep_opening())
            if address in owners:
                opening.append(task)
        if opening:
            # Until then calls go where they went, and are told of the new owner: nobody is refused.
            await asyncio.wait(opening, timeout=MOST_OPENING_SECONDS)
        self._map = found
        self._routes.clear()
        for address in linked - primaries:
            log.warning("%s is no primary of the cluster any more", address)
            self._start(self._retire(self._links.pop(address)))

    async def _retire(self, link: NodeLink) -> None:
        try:
            await asyncio.sleep(RETIRE_SECONDS if link.is_open else 0)
        finally:
            await link.close()

    def _start(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # ---------------------------------------------------------------- calls that a node did not take

    def _redirect(self, link: NodeLink, call: _Call, text: str) -> None:
        requests = len(call.arguments)
        if self._is_closing:
            call.fail(StorageUnavailable("the engine is closing"))
        elif self._requests_elsewhere + requests > limits.QUEUE_REQUESTS:
            call.fail(Overloaded("too many requests wait for partitions that move"))
        else:
            self._requests_elsewhere += requests
            task = self._start(self._send_elsewhere(link, call, text))
            task.add_done_callback(lambda done: self._settle(done, call, requests))

    def _settle(self, done: asyncio.Task[None], call: _Call, requests: int) -> None:
        """Whatever became of the sending, every request gets an answer."""
        self._requests_elsewhere -= requests
        if done.cancelled():
            call.fail(StorageUnavailable("the engine is closing"))
        elif (error := done.exception()) is not None:
            log.error("a call could not be sent to another node", exc_info=error)
            call.fail(StorageUnavailable("the partition is elsewhere, and where could not be learnt"))

    async def _send_elsewhere(self, link: NodeLink, call: _Call, text: str) -> None:
        """Sends a call again, to the node that has its partition by now. Nothing happened at the first."""
        code, _, rest = text.partition(" ")
        if code == "ASK" and (target := self._asked_of(link, rest)) is not None and call.tries < MOST_TRIES:
            call.tries += 1
            target.send_again(call, is_asking=True)
            return
        owner: NodeLink | None = None
        while call.tries < MOST_TRIES:
            call.tries += 1
            if code == "MOVED":
                self._routes.pop(call.script, None)
                await self._refresh()
                owner = self._find(call.script)
            # At once where it is elsewhere now, else it takes time.
            if owner in {None, link} or call.tries > 1:
                await asyncio.sleep(min(SHORTEST_WAIT_SECONDS * 2**call.tries, LONGEST_WAIT_SECONDS))
                owner = self._find(call.script)
            if owner is not None:
                owner.send_again(call)
                return
        call.fail(StorageUnavailable(f"the partition has no primary that takes writes, or is moving: {code}"))

    def _asked_of(self, link: NodeLink, rest: str) -> NodeLink | None:
        """The connection to the node that ASK names, a slot's next owner."""
        host, _, port = rest.partition(" ")[2].rpartition(":")
        named = read_address(f"{host or link.address.host}:{port}")
        address = self._map.find(named)
        target = None if address is None else self._links.get(address)
        if target is None or not target.is_open:
            self._is_stale.set()
            return None
        return target


def _nowhere() -> "asyncio.Future[Answer]":
    future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
    future.set_exception(StorageUnavailable("no primary of the cluster serves the partition now"))
    return future


HotLink = Link | ClusterLink
"""What keeps the hot connections of a data set."""


def new_link(topology: Topology, library: Library, metrics: LaneMetrics, *, replicas: int = 0) -> HotLink:
    """What keeps the hot connections to the servers of a topology; `open` it first."""
    if isinstance(topology, Cluster):
        return ClusterLink(topology, library, metrics, replicas=replicas)
    return Link(topology, library, metrics, replicas=replicas)
