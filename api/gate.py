"""Lets requests in, or not: the one place where both lanes ask who calls and whether that one may."""

from api.access_table import rule_of
from api.hot import Request
from api.keyring import Caller, Keyring


class Gate:
    """The gate of one worker; without a keyring it is open."""

    def __init__(self, keyring: Keyring | None) -> None:
        self._keyring = keyring

    @property
    def asks_keys(self) -> bool:
        """Whether callers have to prove who they are."""
        return self._keyring is not None

    def known(self, request: Request) -> Caller | None:
        """Who calls; None where keys are off, or where it is nobody who is good."""
        if self._keyring is None:
            return None
        return self._keyring.known(request.headers.get(b"authorization"))

    def admit(self, request: Request, route: str, caller: Caller | None = None) -> None:
        """Notes who calls, unless that is known already, and lets that one on to the route, which is named by
        its template. Raises `unauthenticated`, `forbidden`, `StorageUnavailable`.
        """
        if self._keyring is not None:
            rule = rule_of(route, request.method)
            if not rule.is_public:
                if caller is None:
                    caller = self._keyring.find(request.headers.get(b"authorization"))
                request.access = caller.access
                if rule not in caller.passed:
                    rule.check(caller.access)
                    caller.passed.add(rule)

    async def renew(self) -> None:
        """Reads the keys anew: whoever changed one sees it at once in this worker."""
        if self._keyring is not None:
            await self._keyring.refresh()
