"""Calls that a node does not take, against nodes that say exactly what a test tells them to."""

import asyncio
from collections.abc import AsyncIterator
from typing import ClassVar

import hiredis
import pytest

from engine import cluster_link
from engine.cluster_link import MOST_TRIES, ClusterLink
from engine.errors import StorageUnavailable, Unconfirmed
from engine.lane import Answer, Script, bulk
from engine.limits import CALL_REQUESTS
from engine.metrics import LaneMetrics
from engine.script import Library
from engine.topology import Cluster
from engine.topology.slots import slot_of
from engine.topology.url import parse_server_url
from tests.topology.groups import wait_until

KEY = "inv:{5}:meta"
SLOT = slot_of(KEY.encode())
RESERVE = Script("reserve", (KEY,), priority=2)
DONE = b"*4\r\n:7\r\n:3\r\n:9\r\n:1\r\n"
"""The moment, the epoch, the sequence and the answer to one request."""


class FakeNode:
    """A node that answers calls with what a test laid out for it, and knows who owns what."""

    cluster: ClassVar[list["FakeNode"]] = []

    def __init__(self) -> None:
        self.answers: list[bytes] = []
        self.calls: list[bytes] = []
        self.has_slot = False
        self.load_seconds = 0.0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parser = hiredis.Reader()
        while chunk := await reader.read(1 << 16):
            parser.feed(chunk)
            while (words := parser.gets()) is not False:
                if words[0] == b"FUNCTION":
                    await asyncio.sleep(self.load_seconds)
                writer.write(self._answer(words))
        writer.close()

    def _answer(self, words: list[bytes]) -> bytes:
        match words[0].upper():
            case b"FCALL" | b"ASKING":
                self.calls.append(words[0])
                if words[0] == b"ASKING":
                    return b"+OK\r\n"
                return self.answers.pop(0) if self.answers else DONE
            case b"CLUSTER":
                return bulk(self._nodes().encode())
            case b"HELLO":
                return b"-NOPROTO\r\n" if words[1:2] != [b"3"] else b"%1\r\n+proto\r\n:3\r\n"
            case _:
                return b"+OK\r\n"

    def _nodes(self) -> str:
        return "".join(
            f"{node.port} 127.0.0.1:{node.port}@1 master - 0 0 {node.has_slot:d} connected"
            f"{' 0-16383' if node.has_slot else ''}\n"
            for node in self.cluster
        )

    async def stop(self) -> None:
        self._server.close()
        await asyncio.sleep(0)


@pytest.fixture
async def nodes() -> AsyncIterator[list[FakeNode]]:
    """Two nodes; the first has all slots."""
    FakeNode.cluster = [FakeNode(), FakeNode()]
    for node in FakeNode.cluster:
        await node.start()
    FakeNode.cluster[0].has_slot = True
    yield FakeNode.cluster
    for node in FakeNode.cluster:
        await node.stop()


@pytest.fixture
async def link(nodes: list[FakeNode]) -> AsyncIterator[ClusterLink]:
    """A link to both."""
    cluster = Cluster(parse_server_url(f"redis+cluster://127.0.0.1:{nodes[0].port}"))
    opened = ClusterLink(cluster, Library("test", "", {}), LaneMetrics())
    await opened.open()
    links = opened._links.values()
    await asyncio.to_thread(wait_until, lambda: all(one.is_open for one in links), "both are connected")
    yield opened
    await opened.close()
    await cluster.close()


def reply(first: int, count: int) -> bytes:
    """A call's answer that counts from a number on."""
    numbers = b"".join(b":%d\r\n" % number for number in range(first, first + count))
    return b"*%d\r\n:7\r\n:3\r\n:9\r\n%b" % (count + 3, numbers)


async def ask(link: ClusterLink) -> Answer:
    """One request."""
    async with asyncio.timeout(10):
        return await link.submit(RESERVE, bulk(b"x"))


async def test_a_call_goes_to_the_owner(link: ClusterLink, nodes: list[FakeNode]) -> None:
    assert await ask(link) == (7, 3, 9, 1)
    assert [node.calls for node in nodes] == [[b"FCALL"], []]


async def test_moved_is_followed_after_asking_who_has_the_slot(
    link: ClusterLink, nodes: list[FakeNode]
) -> None:
    """And from then on the new owner is asked first."""
    nodes[0].answers = [b"-MOVED %d 127.0.0.1:%d\r\n" % (SLOT, nodes[1].port)]
    nodes[0].has_slot, nodes[1].has_slot = False, True
    assert await ask(link) == (7, 3, 9, 1)
    assert await ask(link) == (7, 3, 9, 1)
    assert [node.calls for node in nodes] == [[b"FCALL"], [b"FCALL", b"FCALL"]]


async def test_a_new_primary_is_asked_as_soon_as_it_lets_us_in(
    link: ClusterLink, nodes: list[FakeNode]
) -> None:
    """Until then the old one sends us away, and nobody is refused."""
    promoted = FakeNode()
    promoted.load_seconds = 0.2
    await promoted.start()
    nodes.append(promoted)
    nodes[0].answers = [b"-MOVED %d 127.0.0.1:%d\r\n" % (SLOT, promoted.port)] * 99
    nodes[0].has_slot, promoted.has_slot = False, True
    waiting = []
    for _ in range(5):
        waiting.append(asyncio.ensure_future(ask(link)))
        await asyncio.sleep(0.03)
    assert await asyncio.gather(*waiting) == [(7, 3, 9, 1)] * 5
    assert len(promoted.calls) == len(nodes[0].calls) == 5


async def test_ask_is_followed_once_with_the_word(link: ClusterLink, nodes: list[FakeNode]) -> None:
    """ASKING goes right before the call, and the slot's owner stays the one to ask."""
    nodes[0].answers = [b"-ASK %d 127.0.0.1:%d\r\n" % (SLOT, nodes[1].port), DONE]
    assert await ask(link) == (7, 3, 9, 1)
    assert nodes[1].calls == [b"ASKING", b"FCALL"]
    assert await ask(link) == (7, 3, 9, 1)
    assert [node.calls for node in nodes] == [[b"FCALL", b"FCALL"], [b"ASKING", b"FCALL"]]


async def test_many_requests_are_sent_elsewhere_as_the_one_call_that_they_were(
    link: ClusterLink, nodes: list[FakeNode]
) -> None:
    """Every request gets the answer of its own place."""
    nodes[0].answers = [b"-ASK %d :%d\r\n" % (SLOT, nodes[1].port)]
    nodes[1].answers = [b"*6\r\n:7\r\n:3\r\n:9\r\n:1\r\n:2\r\n:3\r\n"]
    answers = await asyncio.gather(*(link.submit(RESERVE, bulk(b"x")) for _ in range(3)))
    assert [answer[3] for answer in answers] == [1, 2, 3]


async def test_calls_of_many_follow_their_slot_one_by_one(link: ClusterLink, nodes: list[FakeNode]) -> None:
    """The slot moves between two calls of one batch: what is not answered yet is answered elsewhere."""
    nodes[0].answers = [reply(1, CALL_REQUESTS), b"-MOVED %d 127.0.0.1:%d\r\n" % (SLOT, nodes[1].port)]
    nodes[1].answers = [reply(CALL_REQUESTS + 1, 2)]
    single = link.submit(RESERVE, bulk(b"x"))
    nodes[0].has_slot, nodes[1].has_slot = False, True
    sent = link.submit_many(RESERVE, [(bulk(b"x"), 1)] * (CALL_REQUESTS + 1))
    async with asyncio.timeout(10):
        answers = [await waiting for _, waiting in sent]
    assert [size for size, _ in sent] == [CALL_REQUESTS - 1, 2]
    assert await single == (7, 3, 9, 1)
    assert answers == [
        (7, 3, 9, list(range(2, CALL_REQUESTS + 1))),
        (7, 3, 9, [CALL_REQUESTS + 1, CALL_REQUESTS + 2]),
    ]
    assert [node.calls for node in nodes] == [[b"FCALL"] * 2, [b"FCALL"]]


async def test_many_that_nobody_takes_are_refused(
    link: ClusterLink, nodes: list[FakeNode], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All requests of a call share its fate; so do those of a slot without an owner."""
    monkeypatch.setattr(cluster_link, "LONGEST_WAIT_SECONDS", 0.01)
    nodes[0].answers = [b"-TRYAGAIN half moved\r\n"] * 99
    ((size, waiting),) = link.submit_many(RESERVE, [(bulk(b"x"), 1)] * 3)
    assert size == 3
    with pytest.raises(StorageUnavailable, match="is moving"):
        await waiting
    nodes[0].has_slot = False
    await link._refresh()
    ((size, waiting),) = link.submit_many(RESERVE, [(bulk(b"x"), 1)] * 3)
    assert size == 3
    with pytest.raises(StorageUnavailable, match="no primary"):
        await waiting


@pytest.mark.parametrize("word", [b"TRYAGAIN", b"CLUSTERDOWN", b"MOVED 1 127.0.0.1:1"])
async def test_a_call_is_tried_again_for_a_while(
    link: ClusterLink, nodes: list[FakeNode], word: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then it is refused, and it had no effect."""
    monkeypatch.setattr(cluster_link, "LONGEST_WAIT_SECONDS", 0.01)
    nodes[0].answers = [b"-%b half moved\r\n" % word] * 3
    assert await ask(link) == (7, 3, 9, 1)
    assert len(nodes[0].calls) == 4
    nodes[0].answers = [b"-%b half moved\r\n" % word] * 99
    with pytest.raises(StorageUnavailable, match="has no primary that takes writes, or is moving"):
        await ask(link)
    assert len(nodes[0].calls) == 4 + 1 + MOST_TRIES


async def test_an_error_after_asking_is_the_calls_own(link: ClusterLink, nodes: list[FakeNode]) -> None:
    """What a script answers on the other node is final."""
    nodes[0].answers = [b"-ASK %d 127.0.0.1:%d\r\n" % (SLOT, nodes[1].port)]
    nodes[1].answers = [b"-ERR a script failed\r\n"]
    with pytest.raises(Unconfirmed):
        await ask(link)


async def test_closing_answers_what_is_on_its_way_elsewhere(link: ClusterLink, nodes: list[FakeNode]) -> None:
    """Nobody waits for ever."""
    nodes[0].answers = [b"-TRYAGAIN half moved\r\n"] * 99
    waiting = link.submit(RESERVE, bulk(b"x"))
    await asyncio.sleep(0.05)
    await link.close()
    with pytest.raises(StorageUnavailable, match="closing"):
        await waiting
