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
SLOT_BYTES = 16
"""A fingerprint of the caller's name, and the time at which its bucket is full."""
PROBES = 8
FILE_NAME = "quota"
NETWORK_BITS = 64
"""Of an IPv6 address, which its owner has many of."""
_POLICY = b'"caller"'

Headers = list[tuple[bytes, bytes]]


class Rate:
    """So many requests a second, and so many at once."""

    __slots__ = ("burst", "policy", "seconds_each", "span")

    def __init__(self, per_second: float, burst: int) -> None:
        self.burst = burst
        self.seconds_each = 1 / per_second
        self.span = burst / per_second
        self.policy = (b"ratelimit-policy", b"%b;q=%d;w=%d" % (_POLICY, burst, ceil(self.span)))


class Quota:
    """The buckets, as one worker sees them."""

    def __init__(self, rate: Rate | None, directory: Path | None = None) -> None:
        """`rate` is everybody's who has none of its own; in the directory the workers meet. Without one, a
        worker counts alone.
        """
        self._rate = rate
        shared = memoryview(_shared(directory))
        self._names = shared.cast("Q")
        self._times = shared.cast("d")
        self._known: dict[str, tuple[int, int]] = {}
        """Fingerprint and slot of a caller."""

    def charge(self, caller: str, requests: int, own: Rate | None = None) -> Headers:
        """Takes so many tokens; what the answer tells of the rest. Raises `quota_exceeded`. Who asks for more
        than a bucket holds needs a full one.
        """
        rate = own or self._rate
        if rate is None:
            return []
        now = monotonic()
        known = self._known.get(caller)
        if known is None or self._names[known[1]] != known[0]:
            known = self._find(caller, now)
        slot = known[1]
        full_at = self._times[slot + 1]
        full_at = max(full_at, now)
        full_at += rate.seconds_each * (min(rate.burst, requests))
        left = rate.span - (full_at - now)
        if left < -1e-9:  # noqa: PLR2004 - sums of floats
            raise _exceeded(rate, -left)
        self._times[slot + 1] = full_at
        told = b"%b;r=%d;t=%d" % (_POLICY, left / rate.seconds_each + 1e-6, ceil(full_at - now))
        return [rate.policy, (b"ratelimit", told)]

    def _find(self, caller: str, now: float) -> tuple[int, int]:
        """The bucket of a caller; a new one takes the place of the fullest."""
        name = int.from_bytes(blake2b(caller.encode(), digest_size=8).digest(), "little") or 1
        probes = [2 * ((name + step) % SLOTS) for step in range(PROBES)]
        slot = next((probe for probe in probes if self._names[probe] == name), None)
        if slot is None:
            slot = min(probes, key=lambda probe: self._times[probe + 1])
            self._names[slot], self._times[slot + 1] = name, now
        if len(self._known) >= SLOTS:
            self._known.clear()
        self._known[caller] = found = (name, slot)
        return found


def quota_of(per_second: float, burst: int, directory: Path | None) -> Quota | None:
    """None where there is no limit."""
    return Quota(Rate(per_second, burst), directory) if per_second else None


def network_of(address: str) -> str:
    """What counts as one caller of all those that have no key."""
    if ":" not in address:
        return address
    found = ip_address(address.partition("%")[0])
    mapped = getattr(found, "ipv4_mapped", None)
    return str(mapped or ip_network((found, NETWORK_BITS), strict=False))


def _shared(directory: Path | None) -> mmap.mmap:
    if directory is None:
        return mmap.mmap(-1, SLOTS * SLOT_BYTES)
    file = os.open(directory / FILE_NAME, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(file, SLOTS * SLOT_BYTES)
        return mmap.mmap(file, SLOTS * SLOT_BYTES)
    finally:
        os.close(file)


def _exceeded(rate: Rate, wait: float) -> ProblemError:
    seconds = ceil(wait)
    return ProblemError(
        "quota_exceeded",
        f"{rate.burst} requests at once, {1 / rate.seconds_each:g} a second",
        headers={
            "Retry-After": str(seconds),
            "RateLimit-Policy": rate.policy[1].decode(),
            "RateLimit": f"{_POLICY.decode()};r=0;t={seconds}",
        },
    )
