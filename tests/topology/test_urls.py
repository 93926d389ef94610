"""What URLs say, and what a person is told who gets one wrong."""

import pytest

from engine.topology import Cluster, Sentinel, Standalone, open_topology
from engine.topology.slots import Node, SlotMap, read_nodes, slot_of
from engine.topology.url import Access, Address, Tls, parse_server_url, read_address


@pytest.mark.parametrize(
    ("url", "kind", "addresses", "access", "service"),
    [
        ("redis://", "standalone", [("localhost", 6379)], Access(), ""),
        ("redis://h:7/3", "standalone", [("h", 7)], Access(database=3), ""),
        ("redis://h?db=2", "standalone", [("h", 6379)], Access(database=2), ""),
        ("redis://:p%40ss@h", "standalone", [("h", 6379)], Access(password="p@ss"), ""),
        ("redis://shop:a%2Fb@[::1]:7", "standalone", [("::1", 7)], Access("shop", "a/b"), ""),
        ("unix://shop:s@/run/v.sock?db=1", "standalone", [], Access("shop", "s", 1), ""),
        ("rediss://h", "standalone", [("h", 6379)], Access(tls=Tls()), ""),
        (
            "rediss://h?ssl_ca_certs=/ca.pem&ssl_certfile=/c.pem&ssl_keyfile=/k.pem&ssl_check_hostname=false",
            "standalone",
            [("h", 6379)],
            Access(tls=Tls("/ca.pem", "/c.pem", "/k.pem", check_hostname=False)),
            "",
        ),
        (
            "rediss://h?ssl_cert_reqs=none",
            "standalone",
            [("h", 6379)],
            Access(tls=Tls(is_verified=False)),
            "",
        ),
        (
            "redis+sentinel://u:p@a,b:7/shop/2",
            "sentinel",
            [("a", 26379), ("b", 7)],
            Access("u", "p", 2),
            "shop",
        ),
        (
            "redis+cluster://u:p@a,b:7,[::1]:8",
            "cluster",
            [("a", 6379), ("b", 7), ("::1", 8)],
            Access("u", "p"),
            "",
        ),
    ],
)
def test_a_url_is_taken_apart(
    url: str, kind: str, addresses: list[tuple[str, int]], access: Access, service: str
) -> None:
    parsed = parse_server_url(url)
    assert (parsed.kind, list(parsed.addresses), parsed.access, parsed.service) == (
        kind,
        addresses,
        access,
        service,
    )


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://h", "http:// is no scheme of a server: use one of redis://"),
        ("h:6379", "is no scheme"),
        ("redis://a,b", "takes one address: use redis\\+cluster://"),
        ("redis://h:x", "'x' is no port"),
        ("redis://h:70000", "is no port"),
        ("redis://h/zero", "'zero' is no database"),
        ("redis://h/1/2", "one number after the address"),
        ("redis://h?sokcet=1", "'sokcet' is no option of such a URL; there are db"),
        ("redis://h?ssl_ca_certs=/ca.pem", "for TLS: write rediss"),
        ("rediss://h?ssl_cert_reqs=maybe", "required or none"),
        ("rediss://h?ssl_keyfile=/k.pem", "needs its certificate"),
        ("rediss://h?ssl_ca_certs=/nowhere/ca.pem", "certificate of the server's URL cannot be used"),
        ("unix://", "needs the path of a socket"),
        ("redis+sentinel://a,b", "needs the service's name"),
        ("redis+cluster://a/1", "database 0 only"),
    ],
)
def test_a_wrong_url_is_told_with_its_remedy(url: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        open_topology(url)


def test_no_message_repeats_a_password() -> None:
    """A URL ends up in logs by way of its error."""
    for url in ("redis://u:secret@h:x", "redis+cluster://u:secret@h/1", "redis+sentinel://u:secret@h"):
        with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is what is looked at
            open_topology(url)
        assert "secret" not in str(caught.value)
    assert "secret" not in Standalone("redis://u:secret@h:7").name


async def test_the_scheme_chooses_the_topology() -> None:
    """Chosen once; nothing is connected to."""
    kinds = {"redis://h": Standalone, "redis+sentinel://h/s": Sentinel, "redis+cluster://h": Cluster}
    for url, kind in kinds.items():
        opened = open_topology(url)
        assert type(opened) is kind
        await opened.close()


def test_an_address_has_a_port_or_the_usual_one() -> None:
    assert read_address("h") == Address("h", 6379)
    assert read_address(":7", 1) == Address("localhost", 7)
    assert str(read_address("[fe80::1]:7")) == "[fe80::1]:7"


@pytest.mark.parametrize(
    ("key", "slot"),
    [(b"123456789", 12739), (b"inv:{5}:meta", 9974), (b"{}x", 10_595), (b"$12\r\ninv:{5}:meta\r\n", 9974)],
)
def test_slots_are_those_of_the_servers(key: bytes, slot: int) -> None:
    """Asked of a server with CLUSTER KEYSLOT, but for the last: a key in wire form has the same tag."""
    assert slot_of(key) == slot


NODES = """\
aaa 127.0.0.1:7000@17000,one.example,shard-id=1 myself,master - 0 0 3 connected 0-5460 9000 [5461->-bbb]
bbb 127.0.0.1:7001@17001,two.example master - 0 1 2 connected 5461-8999 9001-16383
ccc :7002@17002 slave aaa 0 1 3 connected
ddd 127.0.0.1:7003@17003 master,fail - 1 1 1 disconnected
eee :0@0 master,noaddr - 1 1 1 disconnected
"""


def test_the_nodes_of_an_answer_are_read() -> None:
    """A slot on its way is still its old owner's; who has no address yet is left out."""
    nodes = list(read_nodes(NODES, Address("10.0.0.9", 7002), by_name=False))
    assert [node.address for node in nodes] == [
        ("127.0.0.1", 7000),
        ("127.0.0.1", 7001),
        ("10.0.0.9", 7002),
        ("127.0.0.1", 7003),
    ]
    assert nodes[0].slots == ((0, 5460), (9000, 9000))
    found = SlotMap(nodes)
    assert [found.owner(slot) and found.owner(slot).port for slot in (0, 5461, 9000, 9001)] == [
        7000,
        7001,
        7000,
        7001,
    ]
    assert [address.port for address in found.primaries()] == [7000, 7001]
    assert found.find(Address("two.example", 7001)) == ("127.0.0.1", 7001)
    assert found.find(Address("two.example", 7000)) is None
    named = next(read_nodes(NODES, Address("x", 1), by_name=True))
    assert named.address == ("one.example", 7000)


def test_the_higher_epoch_is_right() -> None:
    """Whoever was cut off still claims what is no longer its own, in whatever order answers come."""
    old = Node(Address("a", 1), "", 1, is_primary=True, is_failed=False, slots=((0, 10),))
    new = Node(Address("b", 2), "", 5, is_primary=True, is_failed=False, slots=((0, 10),))
    for answers in ([old, new], [new, old]):
        assert SlotMap(answers).owner(7) == ("b", 2)
    assert SlotMap([old]).owner(11) is None
