"""Keys between those who ask for them, by HTTP or by the command line, and the engine."""

from api.access import OF_SELLERS, Scope
from api.codec import format_time
from api.schemas_keys import KeyAnswer, KeyBody, MadeKeyAnswer, SecretAnswer
from engine import InvalidRequest
from engine.api_keys import Made, Wish
from engine.types import ApiKey


def wish_of(body: KeyBody) -> Wish:
    """What a body asks for. Raises `InvalidRequest`."""
    if body.quantities == "banded" and not OF_SELLERS.issuperset(body.scopes):
        raise InvalidRequest(
            "/quantities", f"a key that is shown bands has no scopes but {', '.join(sorted(OF_SELLERS))}"
        )
    return Wish(
        body.name,
        tuple(scope.value for scope in Scope if scope in body.scopes),
        None if body.locations is None else tuple(sorted(set(body.locations))),
        None if body.channels is None else tuple(sorted(set(body.channels))),
        body.quantities == "banded",
        None if body.expires_at is None else int(body.expires_at.timestamp() * 1000),
        body.requests_per_second,
    )


def key_answer(key: ApiKey, now_ms: int) -> KeyAnswer:
    """A key as it is shown."""
    is_good = key.revoked_ms is None
    return KeyAnswer(
        id=key.id,
        name=key.name,
        scopes=list(key.scopes),
        locations=None if key.locations is None else list(key.locations),
        channels=None if key.channels is None else list(key.channels),
        quantities="banded" if key.is_banded else "exact",
        created_at=format_time(key.created_ms),
        expires_at=_time(key.expires_ms),
        revoked_at=_time(key.revoked_ms),
        requests_per_second=key.requests_per_second,
        secrets=[
            SecretAnswer(format_time(secret.made_ms), _time(secret.ends_ms))
            for secret in key.secrets
            if is_good and (secret.ends_ms is None or secret.ends_ms > now_ms)
        ],
    )


def made_answer(made: Made, now_ms: int) -> MadeKeyAnswer:
    """A key as it is shown to who made or rotated it."""
    shown = key_answer(made.key, now_ms)
    return MadeKeyAnswer(**{name: getattr(shown, name) for name in shown.__struct_fields__}, key=made.text)


def _time(at_ms: int | None) -> str | None:
    return None if at_ms is None else format_time(at_ms)
