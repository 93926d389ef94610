"""Lets requests in, or not: the one place where both lanes ask who calls and whether that one may."""

from api.access import OPEN, Access
from api.access_table import rule_of
from api.hot import Request
from api.keyring import Keyring
from api.problems import ProblemError
from engine.errors import BincardError


class Gate:
    """The gate of one worker; without a keyring it is open."""

    def __init__(self, keyring: Keyring | None) -> None:
        self._keyring = keyring

    @property
    def asks_keys(self) -> bool:
        """Whether callers have to prove who they are."""
        return self._keyring is not None

    def admit(self, request: Request, route: str) -> None:
        """Notes who calls, and lets that one on to the route, which is named by its template. Raises
        `unauthenticated`, `forbidden`, `StorageUnavailable`.
        """
        if self._keyring is not None:
            rule = rule_of(route, request.method)
            if not rule.is_public:
                caller = self._keyring.find(request.headers.get(b"authorization"))
                request.access = caller.access
                if rule not in caller.passed:
                    rule.check(caller.access)
                    caller.passed.add(rule)

    def caller_of(self, request: Request) -> Access:
        """Who calls, as far as that is known: nobody where keys are off, or where it is none that is good."""
        if self._keyring is None:
            return OPEN
        try:
            return self._keyring.find(request.headers.get(b"authorization")).access
        except (ProblemError, BincardError):
            return OPEN

    async def renew(self) -> None:
        """Reads the keys anew: whoever changed one sees it at once in this worker."""
        if self._keyring is not None:
            await self._keyring.refresh()
