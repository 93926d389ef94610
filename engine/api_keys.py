"""API keys: who may call the service. The part of `Inventory` that makes, rotates and revokes them.

A key is a setting (`docs/decisions/0029`). Its text is `bck_`, the id, `_`, the secret and a checksum; only
the hash of the text is kept, so it is shown once. What a key may do is the affair of whoever checks it: here
scopes are words.
"""

from base64 import b32encode
from binascii import crc32
from collections.abc import Sequence
from hashlib import sha256
from re import compile as compile_pattern
from secrets import token_bytes

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from engine import limits
from engine.errors import IdempotencyMismatch, InvalidRequest, KeyNotFound, Overloaded
from engine.ids import NO_OPERATION, caller_mark, fingerprint
from engine.places import Places
from engine.planner import LOCATION_PATTERN
from engine.settings import Settings
from engine.types import ApiKey, KeySecret

SECRET_SIZE = 20
ID_SIZE = 5
MOST_SECRETS = 2
"""Of one key that are good at a time."""
MAX_NAME_LENGTH = 100
MAX_RATE = 1_000_000
"""Requests a second that a key may be limited to."""
ATTEMPTS = 50
"""How often a change is tried anew while others change settings."""
_FORM = compile_pattern(r"bck_([a-z2-7]{8})_([a-z2-7]{32})([a-z2-7]{7})")
_encode = msgspec.msgpack.Encoder().encode


class Wish(Struct, frozen=True, array_like=True):
    """What a new key is to be."""

    name: str
    scopes: tuple[str, ...]
    locations: tuple[str, ...] | None = None
    channels: tuple[str, ...] | None = None
    is_banded: bool = False
    expires_ms: int | None = None
    requests_per_second: int | None = None


class Made(Struct, frozen=True):
    """A key, and the text that proves it; None where the request is a repeat: it is shown once."""

    key: ApiKey
    text: str | None


def key_of(wish: Wish) -> ApiKey:
    """A key as it was wished for, which nothing proves yet."""
    return ApiKey(
        "",
        wish.name,
        wish.scopes,
        wish.locations,
        wish.channels,
        wish.is_banded,
        0,
        wish.expires_ms,
        (),
        b"",
        requests_per_second=wish.requests_per_second,
    )


def digest_of(text: bytes) -> bytes:
    """What is kept of a key's text. Cost: 0.3 µs."""
    return sha256(text).digest()


def is_whole(text: str) -> bool:
    """Whether a text has the form of a key and was neither cut off nor mistyped."""
    found = _FORM.fullmatch(text)
    return found is not None and found[3] == _checksum(text[: -len(found[3])])


class ApiKeys(Places):
    """The part of `Inventory` that keeps API keys."""

    async def server_time(self) -> int:
        """The server's clock, in milliseconds since 1970. Raises `StorageUnavailable`."""
        now_ms, _, _, _ = await self.dataset.commands[0].find(NO_OPERATION)
        return now_ms

    async def api_keys(self) -> list[ApiKey]:
        """All keys that ever were, by id."""
        return [found for _, found in sorted((await self.settings.latest()).api_keys.items())]

    async def api_key(self, key: str) -> ApiKey:
        """Raises `KeyNotFound`."""
        return _find(await self.settings.latest(), key)

    async def create_key(self, op_id: str, wish: Wish, *, caller: str = "") -> Made:
        """Makes a key. Raises `InvalidRequest`, `IdempotencyMismatch`."""
        operation, content = self.dataset.ids.of_request(caller, f"key {op_id}"), fingerprint(_encode(wish))
        now_ms = await self.server_time()
        _check_wish(wish, now_ms)
        for _ in range(ATTEMPTS):
            settings = await self.settings.latest()
            made = settings.api_keys.get(_id_of(operation))
            if made is not None:
                if made.content != content:
                    raise IdempotencyMismatch("this operation id was used before, with other content")
                return Made(made, None)
            text, digest = _new_text(_id_of(operation))
            key = replace(
                key_of(wish),
                id=_id_of(operation),
                created_ms=now_ms,
                secrets=(KeySecret(digest, now_ms, operation),),
                content=content,
            )
            if caller_mark(key.id) in {caller_mark(other) for other in settings.api_keys}:
                raise InvalidRequest(
                    "", "choose another Idempotency-Key: the id that it leads to cannot be used"
                )
            if await self.setting_store.save_since(key, settings.number, caller):
                return Made(key, text)
        raise _busy()

    async def rotate_key(self, op_id: str, key: str, *, grace_seconds: int = 0, caller: str = "") -> Made:
        """Makes a new secret; those before it end after a grace. Raises `KeyNotFound`, `InvalidRequest`."""
        if not 0 <= grace_seconds <= limits.MAX_TTL_SECONDS:
            raise InvalidRequest("/grace_seconds", f"from 0 to {limits.MAX_TTL_SECONDS}")
        operation = self.dataset.ids.of_request(caller, f"rotate {key} {op_id}")
        now_ms = await self.server_time()
        for _ in range(ATTEMPTS):
            settings = await self.settings.latest()
            found = _find(settings, key)
            if any(secret.made_by == operation for secret in found.secrets):
                return Made(found, None)
            if has_ended(found, now_ms):
                raise InvalidRequest("", "the key has expired or was revoked: create another")
            text, digest = _new_text(key)
            end_ms = now_ms + 1000 * grace_seconds
            kept = [
                replace(secret, ends_ms=min(end_ms, secret.ends_ms or end_ms))
                for secret in found.secrets[1 - MOST_SECRETS :]
            ]
            rotated = replace(found, secrets=(*kept, KeySecret(digest, now_ms, operation)))
            if await self.setting_store.save_since(rotated, settings.number, caller):
                return Made(rotated, text)
        raise _busy()

    async def revoke_key(self, key: str, *, caller: str = "") -> ApiKey:
        """Ends a key for good. Raises `KeyNotFound`."""
        now_ms = await self.server_time()
        for _ in range(ATTEMPTS):
            settings = await self.settings.latest()
            found = _find(settings, key)
            if found.revoked_ms is not None:
                return found
            revoked = replace(found, revoked_ms=now_ms)
            if await self.setting_store.save_since(revoked, settings.number, caller):
                return revoked
        raise _busy()


def has_ended(key: ApiKey, now_ms: int) -> bool:
    """Whether nobody can call with the key any more."""
    return key.revoked_ms is not None or (key.expires_ms is not None and key.expires_ms <= now_ms)


def _find(settings: Settings, key: str) -> ApiKey:
    found = settings.api_keys.get(key)
    if found is None:
        raise KeyNotFound(f"there is no key {key}")
    return found


def _check_wish(wish: Wish, now_ms: int) -> None:
    if not 1 <= len(wish.name) <= MAX_NAME_LENGTH or not wish.name.isprintable():
        raise InvalidRequest("/name", f"from 1 to {MAX_NAME_LENGTH} printable characters")
    for field, names in (("/locations", wish.locations), ("/channels", wish.channels)):
        if names is not None:
            _check_names(field, names)
    if wish.expires_ms is not None and wish.expires_ms <= now_ms:
        raise InvalidRequest("/expires_at", "is over already")
    if wish.requests_per_second is not None and not 1 <= wish.requests_per_second <= MAX_RATE:
        raise InvalidRequest(
            "/requests_per_second", f"from 1 to {MAX_RATE}; leave it out for no limit of its own"
        )


def _check_names(field: str, names: Sequence[str]) -> None:
    if not 1 <= len(names) <= limits.MAX_NAMES:
        raise InvalidRequest(field, f"from 1 to {limits.MAX_NAMES}; leave it out where all are meant")
    for index, name in enumerate(names):
        if not LOCATION_PATTERN.fullmatch(name):
            raise InvalidRequest(f"{field}/{index}", "an id has 1 to 64 of A-Z a-z 0-9 . _ -")


def _id_of(operation: bytes) -> str:
    """The id of the key that a request makes: the same for a repeat."""
    return b32encode(operation[-ID_SIZE:]).decode().lower()


def _new_text(key: str) -> tuple[str, bytes]:
    """A text that proves a key, and what is kept of it."""
    begun = f"bck_{key}_{b32encode(token_bytes(SECRET_SIZE)).decode().lower()}"
    text = begun + _checksum(begun)
    return text, digest_of(text.encode())


def _checksum(text: str) -> str:
    return b32encode(crc32(text.encode()).to_bytes(4, "big")).decode().lower().rstrip("=")


def _busy() -> Overloaded:
    return Overloaded("settings change all the time")
