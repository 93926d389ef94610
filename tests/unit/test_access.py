"""Scopes, restrictions and bands, and the keys that a worker knows."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from api import keyring
from api.access import BANDS, OPEN, Access, Scope, access_of, band, grants
from api.access_table import ROUTES, UndeclaredRouteError, check_routes, rule_of
from api.key_forms import wish_of
from api.keyring import Keyring
from api.problems import ProblemError
from api.schemas_keys import KeyBody
from engine import InvalidRequest
from engine.api_keys import digest_of, is_whole
from engine.errors import StorageUnavailable
from engine.ids import NO_OPERATION, OperationIds, caller_mark, is_remembered, mark_of, part_id, unremembered
from engine.types import ApiKey, KeySecret

TEXT = "bck_k7q2axbm_abcdefghijklmnopqrstuvwxyz234567"
KEY = ApiKey(
    "k7q2axbm",
    "a",
    tuple(Scope),
    None,
    None,
    is_banded=False,
    created_ms=1,
    expires_ms=None,
    secrets=(KeySecret(digest_of(TEXT.encode()), 1, b"op"),),
    content=b"",
)
NOW_MS = 1_000_000


class Books:
    """What a keyring asks for."""

    def __init__(self, *keys: ApiKey) -> None:
        self.keys: Sequence[ApiKey] = keys
        self.is_there = True

    async def api_keys(self) -> Sequence[ApiKey]:
        if not self.is_there:
            raise StorageUnavailable("gone")
        return self.keys

    async def server_time(self) -> int:
        return NOW_MS


def ring(books: Any) -> Keyring:  # noqa: ANN401 - it stands in for an inventory
    made = Keyring(books)
    asyncio.run(made.refresh())
    return made


def bearer(text: str = TEXT) -> bytes:
    return f"Bearer {text}".encode()


@pytest.mark.parametrize(
    "sent",
    [
        None,
        b"",
        b"Bearer",
        b"Bearer ",
        b"Basic dTpw",
        TEXT.encode(),
        bearer(TEXT[:-1]),
        bearer(TEXT + "a"),
        bearer(" " + TEXT),
        b"\xff" * 9000,
    ],
)
def test_what_proves_nobody(sent: bytes | None) -> None:
    """One problem, whatever is wrong."""
    with pytest.raises(ProblemError) as found:
        ring(Books(KEY)).find(sent)
    assert (found.value.code, found.value.detail) == (
        "unauthenticated",
        "send Authorization: Bearer with a valid API key",
    )
    assert found.value.headers == {"WWW-Authenticate": 'Bearer realm="bincard"'}


@pytest.mark.parametrize("word", ["Bearer", "bearer", "BEARER"])
def test_what_proves_somebody(word: str) -> None:
    assert ring(Books(KEY)).find(f"{word} {TEXT}".encode()).access.caller == KEY.id


@pytest.mark.parametrize(
    ("changed", "is_good"),
    [
        ({"revoked_ms": NOW_MS - 1}, False),
        ({"expires_ms": NOW_MS - 1}, False),
        ({"expires_ms": NOW_MS}, False),
        ({"expires_ms": NOW_MS + 60_000}, True),
        ({"secrets": (replace(KEY.secrets[0], ends_ms=NOW_MS - 1),)}, False),
        ({"secrets": (replace(KEY.secrets[0], ends_ms=NOW_MS + 60_000),)}, True),
        ({"secrets": (replace(KEY.secrets[0], ends_ms=NOW_MS + 60_000),), "expires_ms": NOW_MS}, False),
        ({"secrets": (replace(KEY.secrets[0], ends_ms=NOW_MS + 60_000),), "revoked_ms": NOW_MS}, False),
    ],
)
def test_how_long_a_key_is_good(changed: dict[str, Any], is_good: bool) -> None:
    known = ring(Books(replace(KEY, **changed)))
    if is_good:
        assert known.find(bearer()).access.caller == KEY.id
    else:
        with pytest.raises(ProblemError):
            known.find(bearer())


def test_a_key_that_ends_while_it_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has to be asked."""
    known = ring(Books(replace(KEY, expires_ms=NOW_MS + 60_000)))
    assert known.find(bearer()).access.caller == KEY.id
    later = time.monotonic() + 61
    monkeypatch.setattr(keyring, "monotonic", lambda: later)
    with pytest.raises(ProblemError):
        known.find(bearer())


def test_keys_that_cannot_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stay good for some minutes, then nobody is let in, whatever he has."""
    books = Books(KEY)
    known = ring(books)
    books.is_there = False
    with pytest.raises(StorageUnavailable):
        asyncio.run(known.refresh())
    assert known.find(bearer()).access.caller == KEY.id
    later = time.monotonic() + keyring.TRUSTED_SECONDS
    monkeypatch.setattr(keyring, "monotonic", lambda: later + 1)
    for sent in (bearer(), None):
        with pytest.raises(StorageUnavailable):
            known.find(sent)


def test_a_whole_text() -> None:
    """Any character that is missing, too many or another is noticed."""
    whole = "bck_dbo43edu_k7dh6vouwcj5xepbbmya47gxoqkk624q73x7wny"
    assert is_whole(whole)
    assert not any(is_whole(whole[:at] + whole[at + 1 :]) for at in range(len(whole)))
    assert not any(
        is_whole(whole[:at] + ("a" if whole[at] != "a" else "b") + whole[at + 1 :])
        for at in range(len(whole))
    )


def test_bands() -> None:
    """The next below, never above; nothing of what is below zero."""
    assert [band(quantity) for quantity in (-3, 0, 1, 4, 5, 9, 10, 19, 49, 99, 100, 10**9)] == [
        0, 0, 1, 1, 5, 5, 10, 10, 20, 50, 100, 100,
    ]  # fmt: skip
    assert all(band(quantity) in BANDS and band(quantity) <= quantity for quantity in range(200))


@pytest.mark.parametrize(
    ("own", "wished"),
    [
        ({"scopes": (Scope.STOCK_READ,)}, {"scopes": (Scope.STOCK_READ, Scope.STOCK_WRITE)}),
        ({"locations": ("a",)}, {"locations": None}),
        ({"locations": ("a",)}, {"locations": ("a", "b")}),
        ({"channels": ("a",)}, {"channels": None}),
        ({"channels": ("a",)}, {"channels": ("b",)}),
        ({"is_banded": True}, {"is_banded": False}),
        ({"expires_ms": 5}, {"expires_ms": None}),
        ({"expires_ms": 5}, {"expires_ms": 6}),
    ],
)
def test_what_a_key_grants(own: dict[str, Any], wished: dict[str, Any]) -> None:
    """What it has itself, and no more."""
    holder = access_of(replace(KEY, **own))
    assert grants(holder, replace(KEY, **own))
    assert not grants(holder, replace(KEY, **{**own, **wished}))
    assert grants(OPEN, replace(KEY, **wished))


def test_the_table_has_every_route() -> None:
    """One that is missing stops the start, and so does one too many."""
    declared = [(path, method) for path, methods in ROUTES.items() for method in methods]
    check_routes(declared)
    with pytest.raises(UndeclaredRouteError, match="GET /v1/new"):
        check_routes([*declared, ("/v1/new", "GET")])
    with pytest.raises(UndeclaredRouteError, match="GET /v1/keys"):
        check_routes([one for one in declared if one != ("/v1/keys", "GET")])
    assert rule_of("/v1/keys", "HEAD") is rule_of("/v1/keys", "GET")


def test_what_a_restricted_key_may_use() -> None:
    """Routes that keep to the restriction."""
    located, selling = (
        Access(locations=frozenset("a"), is_restricted=True),
        Access(channels=("a",), is_restricted=True),
    )
    rule_of("/v1/stock/{sku}", "GET").check(located)
    rule_of("/v1/reservations", "POST").check(selling)
    for path, method, access in (
        ("/v1/policies", "GET", located),
        ("/v1/locations/{id}", "PUT", located),
        ("/v1/stock/{sku}", "GET", selling),
    ):
        with pytest.raises(ProblemError) as found:
            rule_of(path, method).check(access)
        assert found.value.code == "forbidden"


def test_bands_are_for_sellers() -> None:
    with pytest.raises(InvalidRequest):
        wish_of(KeyBody("a", [Scope.STOCK_READ], quantities="banded"))
    assert wish_of(KeyBody("a", [Scope.AVAILABILITY_READ], quantities="banded")).is_banded


def test_operation_ids_name_their_caller() -> None:
    """Where there is one: without, every byte is that of the hash; the parts of a basket name him too."""
    ids = OperationIds(b"secret")
    for of in (ids.of_request, ids.of_movement):
        own, other, nobody = of("one", "key"), of("other", "key"), of("", "key")
        assert len({own, other, nobody}) == 3
        assert len(own) == len(nobody) == 12
        assert [mark_of(own), mark_of(other)] == [caller_mark("one"), caller_mark("other")]
        assert is_remembered(own)
        assert mark_of(part_id(own, 65_000)) == caller_mark("one")
    assert ids.of_request("", "key").hex() == "e2ef9a38218fa57e7f111d5a"
    assert unremembered("") is NO_OPERATION
    assert not is_remembered(unremembered("one"))
    assert mark_of(unremembered("one")) == caller_mark("one")
