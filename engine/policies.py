"""Policies of positions, and fences: what is withheld, from whom, and what may be promised beyond.

The ledger names who changed one: `caller`.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import cast

from engine import keys, limits, planner, refusals
from engine.cards import (
    UNLIMITED,
    decode_fences,
    fence_field,
    is_divider,
    read_positions,
    split_fence_field,
)
from engine.commands import Answered, Reply
from engine.errors import REFUSAL_ERRORS, FenceNotFound, InvalidRequest, PolicyNotFound
from engine.keys import partition_of
from engine.outcomes import Outcome
from engine.places import Places
from engine.types import Fence, Policy, Position

_FENCES = b"\n"
"""What the field of a position's fences begins with."""


class Policies(Places):
    """The part of `Inventory` that knows policies and fences."""

    # ---------------------------------------------------------------- policies

    async def save_policy(self, policy: Policy, *, caller: str = "") -> Policy:
        """Creates or replaces the policy of a position, which is made where there is none.

        Raises `InvalidRequest`, `LocationNotFound`. What is promised already stays promised.
        """
        planner.check_sku(policy.sku, "/sku")
        planner.check_location(policy.location, "/location")
        _check_number(policy.safety_stock, "/safety_stock")
        if policy.backorder_limit != UNLIMITED:
            _check_number(policy.backorder_limit, "/backorder_limit")
        _check_number(policy.low_stock, "/low_stock")
        numbers = policy.safety_stock, policy.backorder_limit, policy.low_stock
        await self._save_policy(policy.sku, policy.location, numbers, caller)
        return policy

    async def delete_policy(self, sku: str, location: str, *, caller: str = "") -> None:
        """Takes a policy away, so that defaults hold again. Raises `InvalidRequest`, `PolicyNotFound`."""
        planner.check_sku(sku, "/sku")
        planner.check_location(location, "/location")
        await self._save_policy(sku, location, (), caller)

    async def policy(self, sku: str, location: str) -> Policy:
        """The policy of a position, if it has one of its own. Raises `InvalidRequest`, `PolicyNotFound`."""
        planner.check_location(location, "/location")
        for policy in await self.policies(sku):
            if policy.location == location:
                return policy
        raise PolicyNotFound(f"{sku} at {location}: there is no policy")

    async def policies(self, sku: str | None = None) -> list[Policy]:
        """All policies of positions, or those of a SKU, by SKU and location; no defaults.

        Cost: one card for a SKU; without it all stock is read, 1000 cards at a time.
        """
        if sku is None:
            found = [policy async for policy in self._scan_policies()]
        else:
            found = _policies_of(sku, await self._read_positions(sku))
        return sorted(found, key=lambda policy: (policy.sku, policy.location))

    async def _save_policy(self, sku: str, location: str, numbers: Sequence[int], caller: str) -> None:
        commands = self.dataset.commands[partition_of(sku, self._partitions)]
        answered = commands.save_policy(sku, location, numbers, caller=caller)
        await self._saved("save_policy", answered, f"{sku} at {location}")

    async def _scan_policies(self) -> AsyncIterator[Policy]:
        async for field, raw in self._scan_stock():
            name = field.decode()
            if not (field.startswith(_FENCES) or "\n\n" in name or is_divider(raw)):
                for policy in _policies_of(name.partition("\n")[0], read_positions(raw, "")):
                    yield policy

    # ---------------------------------------------------------------- fences

    async def save_fence(
        self, channel: str, sku: str, location: str, quantity: int, *, spill: bool = False, caller: str = ""
    ) -> Fence:
        """Keeps units of a position for a channel. What the channel has promised of it is a part of the
        quantity, and stay so where it is less. More units than there are may be kept.

        Raises `InvalidRequest`, `LocationNotFound`, `ChannelNotFound`, `NotStocked`.
        """
        _check_names(channel, sku, location)
        _check_number(quantity, "/quantity")
        commands = self.dataset.commands[partition_of(sku, self._partitions)]
        answered = commands.save_fence(channel, sku, location, quantity, spills=spill, caller=caller)
        reply = await self._saved("save_fence", answered, f"fence of {channel}, {sku} at {location}")
        remaining, used = reply.answer[-2:]
        return Fence(channel, sku, location, remaining + used, spill, remaining, used)

    async def delete_fence(self, channel: str, sku: str, location: str, *, caller: str = "") -> None:
        """Gives what remains of a fence to all. Raises `InvalidRequest`, `FenceNotFound`, `FenceInUse`
        while the channel has promised units of it.
        """
        _check_names(channel, sku, location)
        commands = self.dataset.commands[partition_of(sku, self._partitions)]
        answered = commands.save_fence(channel, sku, location, None, caller=caller)
        await self._saved("delete_fence", answered, f"fence of {channel}, {sku} at {location}")

    async def fence(self, channel: str, sku: str, location: str) -> Fence:
        """The fence of a channel at a position. Raises `InvalidRequest`, `FenceNotFound`."""
        _check_names(channel, sku, location)
        for fence in await self._read_fences(sku, (location,)):
            if fence.channel == channel:
                return fence
        raise FenceNotFound(f"fence of {channel}, {sku} at {location}: there is none")

    async def fences(self, *, channel: str | None = None, sku: str | None = None) -> list[Fence]:
        """All fences, or those of a channel, of a SKU, or of both; by channel, SKU and location.

        Cost: as for `policies`.
        """
        if sku is None:
            found = [
                fence
                async for field, raw in self._scan_stock()
                if field.startswith(_FENCES)
                for fence in decode_fences(*split_fence_field(field.decode()), raw)
            ]
        else:
            found = await self._read_fences(
                sku, [position.location for position in await self._read_positions(sku)]
            )
        chosen = {(fence.channel, fence.sku, fence.location): fence for fence in found}
        return [chosen[key] for key in sorted(chosen) if channel in {None, key[0]}]

    async def _read_fences(self, sku: str, locations: Iterable[str]) -> list[Fence]:
        places = list(locations)
        if not places:
            return []
        stock = keys.stock(partition_of(sku, self._partitions))
        fields = [fence_field(sku, location) for location in places]
        (stored,) = await self.dataset.topology.read_at_once(("HMGET", stock, *fields))
        return [
            fence
            for location, raw in zip(places, cast("list[bytes | None]", stored), strict=True)
            for fence in decode_fences(sku, location, raw or b"")
        ]

    # ---------------------------------------------------------------- both

    async def _saved(self, verb: str, answered: Answered, subject: str) -> Reply:
        """The answer once there is an effect, or none was needed. Raises the refusal."""
        reply = Reply(*await answered)
        if reply.word in REFUSAL_ERRORS:
            refusal = refusals.plain_refusal(reply, subject)
            self.metrics.count(verb, refusal.outcome)
            raise refusal
        self.metrics.count(verb, Outcome.UNCHANGED if reply.word else Outcome.SAVED)
        return reply

    async def _read_positions(self, sku: str) -> list[Position]:
        """The positions of a SKU, of which an unknown one has none."""
        planner.check_sku(sku, "/sku")
        commands = self.dataset.commands[partition_of(sku, self._partitions)]
        _, epoch, seq, answer = await commands.cards(sku, swept=True)
        cards = answer[1:] if type(answer) is list else [answer]
        return [position for card in cards if card for position in read_positions(card, f"{epoch}.{seq}")]

    async def _scan_stock(self) -> AsyncIterator[tuple[bytes, bytes]]:
        """Every field of every partition's stock, each at least once."""
        for partition in range(self._partitions):
            async for field, raw in self.dataset.topology.scan_hash(keys.stock(partition)):
                yield field, raw


def _policies_of(sku: str, positions: Iterable[Position]) -> list[Policy]:
    return [
        Policy(sku, at.location, at.safety_stock, at.backorder_limit, at.low_stock)
        for at in positions
        if at.has_policy
    ]


def _check_names(channel: str, sku: str, location: str) -> None:
    """Raises `InvalidRequest` unless these are a channel, a SKU and a location."""
    if not planner.LOCATION_PATTERN.fullmatch(channel):
        raise InvalidRequest("/channel", "a channel id has 1 to 64 of A-Z a-z 0-9 . _ -")
    planner.check_sku(sku, "/sku")
    planner.check_location(location, "/location")


def _check_number(number: int, field: str) -> None:
    if not 0 <= number <= limits.MAX_QUANTITY:
        raise InvalidRequest(field, f"from 0 to {limits.MAX_QUANTITY}")
