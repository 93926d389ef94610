"""How often a caller may ask: a bucket of tokens for each, in memory that all API workers share.

Of each bucket one number is kept, the time at which it will be full again. It is read and written without a
lock, so two requests of one caller within the same fraction of a microsecond may count as one.
"""

import mmap
import os
from hashlib import blake2b
from ipaddress import ip_address, ip_network
from math import ceil
from pathlib import Path
from time import monotonic

from api.problems import ProblemError

SLOTS = 1 << 16
_NAMES, _TIMES = 8 * SLOTS, 8 * SLOTS
"""Bytes of the fingerprints of the callers' names, and of the times at which their buckets are full again."""
PROBES = 8
FILE_NAME = "quota"
MOST_TOLD = 4096
NETWORK_BITS = 64
"""Of an IPv6 address, which its owner has many of."""
_POLICY = b'"caller"'
_UNKNOWN = (-1, 0)

Headers = list[tuple[bytes, bytes]]


class Rate:
    """So many requests a second, and so many at once."""

    __slots__ = ("burst", "known", "per_second", "policy", "seconds_each", "span")

    def __init__(self, per_second: float, burst: int) -> None:
        self.burst = burst
        self.per_second = per_second
        self.seconds_each = 1 / per_second
        self.span = burst / per_second
        self.policy = (b"ratelimit-policy", b"%b;q=%d;w=%d" % (_POLICY, burst, ceil(self.span)))
        self.known: dict[int, Headers] = {}
        """What was told already, by the tokens that were left."""

    def told(self, left: int) -> Headers:
        """What an answer says of a bucket with so many tokens: it is full again in so many seconds."""
        if len(self.known) >= MOST_TOLD:
            self.known.clear()
        seconds = ceil((self.burst - left) * self.seconds_each - 1e-6)
        said = (b"ratelimit", b"%b;r=%d;t=%d" % (_POLICY, left, seconds))
        found = self.known[left] = [self.policy, said]
        return found


class Quota:
    """The buckets, as one worker sees them."""

    def __init__(self, rate: Rate | None, directory: Path | None = None) -> None:
        """`rate` is everybody's who has none of its own; in the directory the workers meet. Without one, a
        worker counts alone.
        """
        self._rate = rate
        shared = memoryview(_map(directory))
        self._names, self._full = shared[:_NAMES].cast("Q"), shared[_NAMES:].cast("d")
        self._known: dict[str, tuple[int, int]] = {}
        """Fingerprint and slot of a caller."""

    def charge(self, caller: str, requests: int, own: Rate | None = None) -> Headers:
        """Takes so many tokens; what the answer tells of the rest. Raises `quota_exceeded`. Who asks for more
        than a bucket holds needs a full one.
        """
        rate = own or self._rate
        if rate is None:
            return []
        now, full = monotonic(), self._full
        name, slot = self._known.get(caller, _UNKNOWN)
        if self._names[slot] != name:
            name, slot = self._find(caller, now)
        full_at = full[slot]
        if full_at < now:  # noqa: PLR1730 - a third of what max() takes
            full_at = now
        full_at += rate.seconds_each if requests == 1 else rate.seconds_each * min(requests, rate.burst)
        left = now + rate.span - full_at
        if left < -1e-9:  # noqa: PLR2004 - sums of floats
            raise _exceeded(rate, -left)
        full[slot] = full_at
        tokens = int(left * rate.per_second + 1e-6)
        return rate.known.get(tokens) or rate.told(tokens)

    def _find(self, caller: str, now: float) -> tuple[int, int]:
        """The bucket of a caller; a new one takes the place of the fullest."""
        name = int.from_bytes(blake2b(caller.encode(), digest_size=8).digest(), "little") or 1
        probes = [(name + step) % SLOTS for step in range(PROBES)]
        slot = next((probe for probe in probes if self._names[probe] == name), None)
        if slot is None:
            slot = min(probes, key=self._full.__getitem__)
            self._names[slot], self._full[slot] = name, now
        if len(self._known) >= SLOTS:
            self._known.clear()
        self._known[caller] = found = (name, slot)
        return found


def quota_of(per_second: float, burst: int, directory: Path | None, *, of_keys: bool) -> Quota | None:
    """None where there is no limit; keys may have limits of their own."""
    rate = Rate(per_second, burst) if per_second else None
    return Quota(rate, directory) if rate is not None or of_keys else None


def network_of(address: str) -> str:
    """What counts as one caller of all those that have no key."""
    if ":" not in address:
        return address
    found = ip_address(address.partition("%")[0])
    mapped = getattr(found, "ipv4_mapped", None)
    return str(mapped or ip_network((found, NETWORK_BITS), strict=False))


def _map(directory: Path | None) -> mmap.mmap:
    if directory is None:
        return mmap.mmap(-1, _NAMES + _TIMES)
    file = os.open(directory / FILE_NAME, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(file, _NAMES + _TIMES)
        return mmap.mmap(file, _NAMES + _TIMES)
    finally:
        os.close(file)


def _exceeded(rate: Rate, wait: float) -> ProblemError:
    seconds = ceil(wait)
    return ProblemError(
        "quota_exceeded",
        f"{rate.burst} requests at once, {rate.per_second:g} a second",
        headers={
            "Retry-After": str(seconds),
            "RateLimit-Policy": rate.policy[1].decode(),
            "RateLimit": f"{_POLICY.decode()};r=0;t={seconds}",
        },
    )
