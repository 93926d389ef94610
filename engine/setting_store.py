"""Saves settings where all partitions keep them.

Partition 0 decides on each; the others copy its decisions in their order. A copy that was not made, because
whoever saved it was gone, is made by the next save, or by any sweep: the partition's number tells.
"""

import asyncio
from itertools import pairwise
from typing import TypeVar, cast

from engine import keys, refusals
from engine.commands import Reply
from engine.dataset import Dataset
from engine.errors import REFUSAL_ERRORS, InvalidRequest, NotFound, Refused
from engine.outcomes import Outcome
from engine.setting_checks import check_id, checked
from engine.setting_forms import (
    FORMS,
    Setting,
    SettingClass,
    class_of,
    encode_setting,
    id_of,
    names_of,
    split_field,
)
from engine.settings import SettingsView

_Saved = TypeVar("_Saved", bound=Setting)

_GOODS = {
    SettingClass.LOCATION: (keys.stocked, Outcome.LOCATION_IN_USE),
    SettingClass.CHANNEL: (keys.fenced, Outcome.CHANNEL_IN_USE),
    SettingClass.ITEM: (keys.stock, Outcome.ITEM_IN_USE),
}
"""Where a partition says that goods of its own need a setting."""

COPY_PAUSES = (0.005, 0.02, 0.05, 0.2)
"""Seconds for which a copy that has come too early waits for those before it."""
COPYING_SAVES = 16
"""Settings that a process brings to the other partitions at a time: a request to each of them."""
COPIED_AT_ONCE = 500
"""Changes that are copied together where a partition has fallen behind."""
COPY_ROUNDS = 100
"""How often a partition is brought forward while others change settings, before we leave it to the next."""


class SettingStore:
    """The one who writes settings."""

    def __init__(self, dataset: Dataset, view: SettingsView) -> None:
        self._commands = dataset.commands
        self._topology = dataset.topology
        self._partitions = dataset.partitions
        self._view = view
        self._copying = asyncio.Semaphore(COPYING_SAVES)

    async def save(self, setting: _Saved, caller: str = "") -> _Saved:
        """Creates or replaces a setting; returns it as it is kept. Raises `InvalidRequest`, or `NotFound` of
        something that it names.
        """
        setting = checked(setting)
        await self._save(setting, 0, caller)
        return setting

    async def save_since(self, setting: Setting, number: int, caller: str = "") -> bool:
        """The same, unless settings have changed since a number that they had, which is not 0; whether."""
        return await self._save(checked(setting), number, caller)

    async def _save(self, setting: Setting, at: int, caller: str) -> bool:
        kind, name, packed = class_of(setting), id_of(setting), encode_setting(setting)
        reply = Reply(*await self._commands[0].save_setting(kind, name, packed, at=at, caller=caller))
        if reply.word == Outcome.STALE:
            return False
        self._raise_refusal(reply, kind, name, setting)
        await self._copy(reply, kind, name, packed, caller)
        return True

    async def delete(self, kind: SettingClass, name: str, caller: str = "") -> None:
        """Deletes a setting. Raises `NotFound`, `SettingInUse`."""
        check_id(kind, name, "/sku" if kind is SettingClass.ITEM else "/id")
        if self._partitions > 1 and name not in (await self._view.latest()).stored[kind]:
            raise REFUSAL_ERRORS[FORMS[kind].not_found](f"there is no {FORMS[kind].word} {name}")
        for partition in range(1, self._partitions):
            # Partition 0 sees its own goods, and the copies are refused where goods have come since.
            await self._refuse_stocked(partition, kind, name)
        reply = Reply(*await self._commands[0].save_setting(kind, name, b"", caller=caller))
        self._raise_refusal(reply, kind, name)
        await self._copy(reply, kind, name, b"", caller)

    async def _refuse_stocked(self, partition: int, kind: SettingClass, name: str) -> None:
        if kind is SettingClass.ITEM and partition != keys.partition_of(name, self._partitions):
            return
        if kind not in _GOODS:
            return
        key, word = _GOODS[kind]
        reading = self._topology.read_at_once(("HEXISTS", key(partition), name))
        if (await asyncio.get_running_loop().create_task(reading))[0]:
            raise REFUSAL_ERRORS[word](f"{FORMS[kind].word} {name}: positions or fences exist")

    def _raise_refusal(
        self, reply: Reply, kind: SettingClass, name: str, setting: Setting | None = None
    ) -> None:
        word, subject = reply.word, f"{FORMS[kind].word} {name}"
        if word == Outcome.KIT_IN_ITSELF:
            raise InvalidRequest("/components", "a kit cannot contain itself, directly or through others")
        if word == Outcome.KIT_TOO_DEEP:
            raise InvalidRequest("/components", "kits can be nested in one another at most 4 deep")
        if word is None or word == Outcome.UNCHANGED:
            return
        error = REFUSAL_ERRORS[word]
        which = reply.answer[2] if issubclass(error, NotFound) else 0
        named = FORMS[kind].names
        if which and setting is not None and named is not None:
            subject = f"{FORMS[named].word} {names_of(setting)[which - 1]}"
        raise refusals.plain_refusal(reply, subject)

    # ---------------------------------------------------------------- copying

    async def _copy(self, reply: Reply, kind: SettingClass, name: str, packed: bytes, caller: str) -> None:
        """Brings what partition 0 decided to the others. Raises the refusal of one that has goods in the way,
        once the setting is there again.
        """
        self._view.expire()
        if self._partitions == 1:
            return
        if reply.word is not None:
            # Nothing new, but whoever saved it before may not have brought it to all.
            await self.align()
            return
        number = reply.answer[1]
        # Who saves very much at once waits here: it is decided, and must not be refused for want of room.
        async with self._copying:
            results = await asyncio.gather(
                *(
                    self._copy_to(partition, kind, name, packed, number, caller)
                    for partition in range(1, self._partitions)
                ),
                return_exceptions=True,
            )
        failed = [result for result in results if isinstance(result, BaseException)]
        if any(isinstance(failure, Refused) for failure in failed):
            await self.align()
        for failure in failed:
            raise failure

    async def _copy_to(
        self, partition: int, kind: SettingClass, name: str, packed: bytes, number: int, caller: str
    ) -> None:
        commands = self._commands[partition]
        for pause in COPY_PAUSES:
            answered = commands.save_setting(kind, name, packed, at=number - 1, to=number, caller=caller)
            reply = Reply(*await answered)
            if reply.word != Outcome.STALE:
                self._raise_refusal(reply, kind, name)
                return
            await asyncio.sleep(pause)
        await self._align(partition, await self._read_number(partition))

    async def align(self) -> None:
        """Makes the copies that were not made. Nothing to do costs a read of each partition."""
        for _ in range(COPY_ROUNDS if self._partitions > 1 else 0):
            numbers = await asyncio.gather(*(self._read_number(each) for each in range(self._partitions)))
            behind = [partition for partition, number in enumerate(numbers) if number < numbers[0]]
            if not behind:
                return
            # One that does not give a setting up makes a decision, which the others must have, too.
            await asyncio.gather(*(self._align(partition, numbers[partition]) for partition in behind))

    async def _align(self, partition: int, number: int) -> None:
        """Copies to a partition what changed since a number. A setting whose goods are there comes back."""
        commands = self._commands[partition]
        for _ in range(COPY_ROUNDS):
            changes = await self._read_changes(number)
            if not changes:
                return
            steps = pairwise((number, *(at for at, _, _, _ in changes)))
            replies = await asyncio.gather(
                *(
                    commands.save_setting(kind, name, packed, at=at, to=to)
                    for (at, to), (_, kind, name, packed) in zip(steps, changes, strict=True)
                )
            )
            for answered, (_, kind, name, _) in zip(replies, changes, strict=True):
                reply = Reply(*answered)
                if reply.word in REFUSAL_ERRORS:
                    await self._restore(partition, kind, name)
                    break
            number = await self._read_number(partition)

    async def _restore(self, partition: int, kind: SettingClass, name: str) -> None:
        """Makes a setting anew that a partition with goods of it does not give up."""
        reading = self._topology.read_at_once(("HGET", FORMS[kind].key(partition), name))
        (packed,) = cast("list[bytes | None]", await asyncio.get_running_loop().create_task(reading))
        if packed is not None:
            await self._commands[0].save_setting(kind, name, packed)
            self._view.expire()

    async def _read_number(self, partition: int) -> int:
        reading = self._topology.read_at_once(("HGET", keys.meta(partition), "settings"))
        (found,) = cast("list[bytes | None]", await asyncio.get_running_loop().create_task(reading))
        return int(found or 0)

    async def _read_changes(self, after: int) -> list[tuple[int, SettingClass, str, bytes]]:
        """What partition 0 has changed since a number: the number of each setting's last change, class, id,
        settings.
        """
        return await asyncio.get_running_loop().create_task(self._read_changed(after))

    async def _read_changed(self, after: int) -> list[tuple[int, SettingClass, str, bytes]]:
        topology = self._topology
        (found,) = await topology.read_at_once(
            ("ZRANGEBYSCORE", keys.changes(0), f"({after}", "+inf", "WITHSCORES", "LIMIT", 0, COPIED_AT_ONCE)
        )
        changed = cast("list[tuple[bytes, float]]", found)
        if not changed:
            return []
        fields = [split_field(field) for field, _ in changed]
        packed = await topology.read_at_once(*(("HGET", FORMS[kind].key(0), name) for kind, name in fields))
        return [
            (int(number), kind, name, raw or b"")
            for (_, number), (kind, name), raw in zip(
                changed, fields, cast("list[bytes | None]", packed), strict=True
            )
        ]
