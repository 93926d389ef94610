"""Finds out who calls: all keys of the data set in memory, by the hash of their text, never older than some
seconds.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from hmac import compare_digest
from logging import getLogger
from math import inf
from time import monotonic

from msgspec import Struct, field

from api.access import OPEN, Access, access_of
from api.access_table import Rule
from api.problems import ProblemError
from engine import Inventory
from engine.api_keys import digest_of
from engine.errors import StorageUnavailable, Unavailable, Unconfirmed
from engine.types import ApiKey

log = getLogger("bincard.keys")

POLL_SECONDS = 2.0
"""How often newer keys are asked for: who is revoked is out within twice that."""
TRUSTED_SECONDS = 300.0
"""How long keys are good as they are known while nobody can be asked."""
_BEARER = b"bearer "
_NOBODY = b"bck_aaaaaaaa_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
"""Is looked up where nothing was sent, so that it takes as long."""
MOST_BYTES = 200
"""Of an Authorization that are looked at."""
CLOCK_STEP_SECONDS = 1.0
"""So far the server's clock may go astray before ends are worked out anew."""
MOST_PROVED = 16_384
"""Callers whose proof is remembered."""
NEVER = bytes(32)


class Caller(Struct, eq=False):
    """Somebody who proved who it is, until when by our own clock, and what was found open to it."""

    digest: bytes
    access: Access
    until: float
    passed: set[Rule] = field(default_factory=set)


_NOBODY_KNOWN = Caller(NEVER, OPEN, -inf)


class Keyring:
    """The keys of the data set, as one worker knows them."""

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory
        self._secrets: dict[bytes, Caller] = {}
        self._proved: dict[bytes | None, Caller] = {}
        """What was sent by callers who are known: a few for each key, and begun anew with every change."""
        self._trusted_until = -inf
        self._keys: Sequence[ApiKey] | None = None
        self._offset = 0.0
        """How far our own clock is ahead of the server's."""
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Reads the keys, and goes on doing so. Raises `Unavailable`."""
        await self.refresh()
        self._task = asyncio.get_running_loop().create_task(self._poll())

    async def close(self) -> None:
        """Stops reading."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def find(self, authorization: bytes | None) -> Caller:
        """The caller that a request proves to be. Raises `unauthenticated`, the same for whatever is wrong,
        and `StorageUnavailable` where the keys are too old to go by. Cost: 0.2 µs for who was here before.
        """
        known = self._proved.get(authorization)
        if known is not None:
            now = monotonic()
            if now < known.until and now < self._trusted_until:
                return known
        return self._prove(authorization)

    def known(self, authorization: bytes | None) -> Caller | None:
        """The same, but None for whoever does not prove anything."""
        found = self._proved.get(authorization)
        if found is not None:
            now = monotonic()
            if now < found.until and now < self._trusted_until:
                return found
        try:
            return self._prove(authorization)
        except (ProblemError, StorageUnavailable):
            return None

    def _prove(self, authorization: bytes | None) -> Caller:
        """The same, step by step: as many, and the same ones, for all who do not prove anything."""
        sent = _NOBODY if authorization is None else authorization[:MOST_BYTES]
        text = sent[len(_BEARER) :] if sent[: len(_BEARER)].lower() == _BEARER else _NOBODY
        digest = digest_of(text)
        found = self._secrets.get(digest, _NOBODY_KNOWN)
        now = monotonic()
        if now >= self._trusted_until:
            raise StorageUnavailable("keys cannot be checked: the stock server cannot be reached")
        if not compare_digest(found.digest, digest) & (now < found.until):
            raise ProblemError(
                "unauthenticated", "send Authorization: Bearer with a valid API key", headers=CHALLENGE
            )
        if len(self._proved) < MOST_PROVED:
            self._proved[authorization] = found
        return found

    async def refresh(self) -> None:
        """Reads what has changed. Raises `Unavailable`, `Unconfirmed`."""
        began = monotonic()
        keys = await self._inventory.api_keys()
        asked = monotonic()
        # A little early rather than late.
        offset = asked - await self._inventory.server_time() / 1000
        self._trusted_until = began + TRUSTED_SECONDS
        if keys != self._keys or abs(offset - self._offset) > CLOCK_STEP_SECONDS:
            self._keys, self._offset = keys, offset
            secrets = [secret for key in keys for secret in secrets_of(key, offset) if secret.until > began]
            self._secrets, self._proved = {secret.digest: secret for secret in secrets}, {}

    async def _poll(self) -> None:
        is_told = False
        while True:
            await asyncio.sleep(POLL_SECONDS)
            try:
                async with asyncio.timeout(POLL_SECONDS):
                    await self.refresh()
                is_told = False
            except (Unavailable, Unconfirmed, TimeoutError):
                if not is_told:
                    log.warning(
                        "keys cannot be read; those that are known stay good for %g s", TRUSTED_SECONDS
                    )
                is_told = True
            except Exception:
                log.exception("keys cannot be read")


CHALLENGE = {"WWW-Authenticate": 'Bearer realm="bincard"'}


def secrets_of(key: ApiKey, offset: float) -> list[Caller]:
    """What proves a key's holder, with their ends by a clock so many seconds ahead of a server's."""
    if key.revoked_ms is not None:
        return []
    access = access_of(key)
    ends = [
        (secret, [end for end in (key.expires_ms, secret.ends_ms) if end is not None])
        for secret in key.secrets
    ]
    return [
        Caller(secret.digest, access, min(each) / 1000 + offset if each else inf) for secret, each in ends
    ]
