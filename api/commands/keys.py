"""The commands on API keys. They go to the stored books themselves: whoever may write there may make keys."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from secrets import token_hex
from typing import TypeVar

import msgspec

from api.access import Scope
from api.commands.books import look, write, write_json
from api.key_forms import key_answer, made_answer, wish_of
from api.problems import split_validation_error
from api.schemas_keys import KeyAnswer, KeyBody, MadeKeyAnswer
from api.settings import BooksSettings, KeySettings, SettingsError
from engine import InvalidRequest, Inventory

Result = TypeVar("Result")
EVERY_SCOPE = "all"


def create(settings: KeySettings, name: str) -> int:
    """Makes a key and prints it: the only time that it is seen."""
    scopes = _split(settings.scope) or []
    asked = {
        "name": name,
        "scopes": list(Scope) if scopes == [EVERY_SCOPE] else scopes,
        "locations": _split(settings.location),
        "channels": _split(settings.channel),
        "quantities": settings.quantities,
        "expires_at": settings.expires_at,
        "requests_per_second": settings.key_requests_per_second,
    }
    try:
        wish = wish_of(msgspec.convert(asked, KeyBody))
    except msgspec.ValidationError as fault:
        detail, pointer = split_validation_error(str(fault))
        raise SettingsError(f"the key cannot be made: {pointer}: {detail}") from None
    except InvalidRequest as fault:
        raise SettingsError(f"the key cannot be made: {fault}") from None

    async def make(inventory: Inventory) -> MadeKeyAnswer:
        made = await inventory.create_key(token_hex(16), wish)
        return made_answer(made, await inventory.server_time())

    return _show_made(settings, look(settings, make))


def list_keys(settings: BooksSettings) -> int:
    """Prints all keys, without what proves them."""

    async def read(inventory: Inventory) -> list[KeyAnswer]:
        now_ms = await inventory.server_time()
        return [key_answer(key, now_ms) for key in await inventory.api_keys()]

    found = look(settings, read)
    if settings.json:
        write_json(found)
    else:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S")
        for key in found:
            write(_line(key, now))
    return 0


def rotate(settings: KeySettings, key: str) -> int:
    """Gives a key a new secret and prints it."""

    async def turn(inventory: Inventory) -> MadeKeyAnswer:
        made = await inventory.rotate_key(token_hex(16), key, grace_seconds=settings.grace_seconds)
        return made_answer(made, await inventory.server_time())

    return _show_made(settings, look(settings, turn))


def revoke(settings: BooksSettings, key: str) -> int:
    """Ends a key for good."""
    look(settings, lambda inventory: inventory.revoke_key(key))
    sys.stderr.write(f"key {key} is revoked: every worker refuses it within five seconds\n")
    return 0


def _split(names: str | None) -> list[str] | None:
    return None if names is None else [name.strip() for name in names.split(",")]


def _show_made(settings: BooksSettings, made: MadeKeyAnswer) -> int:
    if settings.json:
        write_json(made)
    else:
        sys.stderr.write(f"key {made.id} ({made.name}): keep it safe, it is not shown again\n")
        write(made.key or "")
    return 0


def _line(key: KeyAnswer, now: str) -> str:
    state = "good"
    if key.revoked_at is not None:
        state = "revoked"
    elif key.expires_at is not None and key.expires_at <= now:
        state = "expired"
    parts = [key.id, state, key.name, " ".join(key.scopes)]
    parts += [f"{word} {' '.join(names)}" for word, names in _limits(key) if names]
    return "  ".join(parts)


def _limits(key: KeyAnswer) -> list[tuple[str, list[str] | None]]:
    banded = ["quantities"] if key.quantities == "banded" else None
    rate = None if key.requests_per_second is None else [f"{key.requests_per_second}/s"]
    return [("locations", key.locations), ("channels", key.channels), ("banded", banded), ("rate", rate)]
