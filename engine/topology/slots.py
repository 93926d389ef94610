"""Which node of a cluster owns which slot, as the nodes tell it."""

from binascii import crc_hqx
from collections.abc import Iterable, Iterator, Sequence

from msgspec import Struct

from engine.topology.url import Address

SLOTS = 16_384
_FIELDS_BEFORE_SLOTS = 8


def slot_of(key: bytes) -> int:
    """The slot of a key: of its hash tag where it has one."""
    start = key.find(b"{")
    if start >= 0:
        end = key.find(b"}", start + 1)
        if end > start + 1:
            key = key[start + 1 : end]
    return crc_hqx(key, 0) % SLOTS


class Node(Struct, frozen=True):
    """A node as one of its peers describes it. `slots` are ranges, both ends included."""

    address: Address
    hostname: str
    epoch: int
    is_primary: bool
    is_failed: bool
    slots: tuple[tuple[int, int], ...] = ()


class SlotMap:
    """The owners of the slots, from the descriptions that several nodes gave.

    Where they differ the higher configuration epoch is right: it is the cluster's own rule, and a node
    that was cut off does not know better.
    """

    def __init__(self, nodes: Iterable[Node] = ()) -> None:
        newest: dict[Address, Node] = {}
        claims: set[tuple[int, int, int, Address]] = set()
        for node in nodes:
            known = newest.get(node.address)
            if known is None or node.epoch >= known.epoch:
                newest[node.address] = node
            if node.is_primary:
                claims.update((node.epoch, first, last, node.address) for first, last in node.slots)
        self.nodes = newest
        self.claims = tuple(sorted(claims, reverse=True))
        self._owners: dict[int, Address | None] = {}

    def owner(self, slot: int) -> Address | None:
        """The primary that serves a slot, or None where none is known."""
        if slot not in self._owners:
            found = (address for _, first, last, address in self.claims if first <= slot <= last)
            self._owners[slot] = next(found, None)
        return self._owners[slot]

    def primaries(self) -> list[Address]:
        """Every primary that owns slots, or may be given some."""
        owners = {address for _, _, _, address in self.claims}
        spare = {node.address for node in self.nodes.values() if node.is_primary and not node.is_failed}
        return sorted(owners | spare)

    def find(self, address: Address) -> Address | None:
        """The node that an answer names, be it by its address or its host name."""
        if address in self.nodes:
            return address
        named = (
            node.address
            for node in self.nodes.values()
            if node.address.port == address.port and node.hostname == address.host
        )
        return next(named, None)

    def is_like(self, other: "SlotMap") -> bool:
        """Whether the other sends nobody elsewhere."""
        return self.claims == other.claims and self.primaries() == other.primaries()


def read_nodes(text: str, asked: Address, *, by_name: bool) -> Iterator[Node]:
    """The nodes of an answer to CLUSTER NODES, those left out that have no address yet.

    `asked` is who answered: a node may not know an address of its own. `by_name` prefers host names,
    which certificates hold.
    """
    for line in text.splitlines():
        fields = line.split(" ")
        if len(fields) < _FIELDS_BEFORE_SLOTS:
            continue
        place, flags, epoch = fields[1], fields[2].split(","), fields[6]
        if "handshake" in flags or "noaddr" in flags:
            continue
        address, _, names = place.partition(",")
        hostname = names.partition(",")[0]
        host, _, port = address.partition("@")[0].rpartition(":")
        if by_name and hostname:
            host = hostname
        yield Node(
            Address(host.strip("[]") or asked.host, int(port)),
            hostname,
            int(epoch),
            "master" in flags,
            "fail" in flags,
            tuple(_read_ranges(fields[_FIELDS_BEFORE_SLOTS:])),
        )


def _read_ranges(fields: Sequence[str]) -> Iterator[tuple[int, int]]:
    for field in fields:
        if not field.startswith("["):  # a slot on its way: it still belongs to where it comes from
            first, _, last = field.partition("-")
            yield int(first), int(last or first)
