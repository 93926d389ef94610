"""Settings: locations, pools, channels, items. One class serves them all."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from bisect import bisect_right
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import msgspec
from fastapi import Request, Response
from msgspec import Struct

from api.access import Access
from api.replay.client import segment
from api.routes.exchange import (
    Route,
    access_of,
    check_request,
    json_response,
    path_value,
    query_values,
    read_json,
    read_limit,
    tagged_response,
)
from api.schemas_settings import ChannelBody, ItemBody, LocationBody, PoolBody
from engine import Channel, InvalidRequest, Inventory, Item, Location, Pool
from engine.errors import REFUSAL_ERRORS, Unavailable
from engine.setting_forms import FORMS, Setting, SettingClass
from engine.settings import Settings as Stored


class Resource(Struct, frozen=True):
    """What sets a class of settings apart on the wire. `name` is that of the id, in path and body."""

    kind: SettingClass
    word: str
    name: str
    body: type[Struct]
    type: type[Setting]

    @property
    def path(self) -> str:
        return f"/v1/{self.word}s"


RESOURCES = (
    Resource(SettingClass.LOCATION, "location", "id", LocationBody, Location),
    Resource(SettingClass.POOL, "pool", "id", PoolBody, Pool),
    Resource(SettingClass.CHANNEL, "channel", "id", ChannelBody, Channel),
    Resource(SettingClass.ITEM, "item", "sku", ItemBody, Item),
)


class Settings:
    """Reads and keeps one class of settings."""

    def __init__(self, inventory: Inventory, resource: Resource) -> None:
        self._inventory = inventory
        self._resource = resource
        self._decode = msgspec.json.Decoder(resource.body).decode

    def routes(self) -> Sequence[Route]:
        """What these handlers answer."""
        path, name = self._resource.path, self._resource.name
        return (
            Route(("GET", "HEAD"), path, self.page),
            Route(("GET", "HEAD"), f"{path}/{{{name}}}", self.read),
            Route(("PUT",), f"{path}/{{{name}}}", self.save),
            Route(("DELETE",), f"{path}/{{{name}}}", self.delete),
        )

    async def page(self, request: Request) -> Response:
        """Ids in order; a cursor is the last id of the page before."""
        check_request(request)
        query = query_values(request, "limit", "cursor")
        limit = read_limit(query)
        after = _read_cursor(query["cursor"]) if "cursor" in query else ""
        settings = await self._inventory.settings.latest()
        ids = settings.ids(self._resource.kind)
        access = access_of(request)
        if access.is_restricted:
            ids = [name for name in ids if self._is_shown(access, settings, name)]
        first = bisect_right(ids, after)
        page = ids[first : first + limit]
        cursor = _cursor(page[-1]) if len(ids) > first + limit else None
        stored = settings.stored[self._resource.kind]
        content = {"items": [stored[name] for name in page], "next_cursor": cursor}
        return tagged_response(request, content, content)

    async def read(self, request: Request) -> Response:
        check_request(request)
        query_values(request)
        name, access = path_value(request, self._resource.name), access_of(request)
        if access.is_restricted:
            settings = await self._inventory.settings.latest()
            if not self._is_shown(access, settings, name):
                raise REFUSAL_ERRORS[FORMS[self._resource.kind].not_found](
                    f"there is no {self._resource.word} {name}"
                )
        found = await getattr(self._inventory, self._resource.word)(name)
        return tagged_response(request, found, found)

    async def save(self, request: Request) -> Response:
        """Creates (201) or replaces (200). A repeat replaces by the same: it needs no key."""
        check_request(request)
        body = await read_json(request, self._decode)
        name = path_value(request, self._resource.name)
        setting = msgspec.convert(
            {self._resource.name: name, **msgspec.to_builtins(body)}, self._resource.type
        )
        is_new = name not in (await self._inventory.settings.latest()).stored[self._resource.kind]
        saved = await self._change(request, "save", setting)
        if is_new:
            return json_response(201, saved, {"Location": f"{self._resource.path}/{segment(name)}"})
        return json_response(200, saved)

    async def delete(self, request: Request) -> Response:
        check_request(request)
        await self._change(request, "delete", path_value(request, self._resource.name))
        return Response(status_code=204)

    def _is_shown(self, access: Access, settings: Stored, name: str) -> bool:
        """Whether a setting is about a restricted caller's locations alone. Items are about none."""
        match settings.stored[self._resource.kind].get(name):
            case Location():
                return access.covers((name,))
            case Pool(locations=locations):
                return access.covers(locations)
            case Channel():
                return access.covers(settings.locations_of_channel(name))
            case found:
                return found is not None

    async def _change(self, request: Request, verb: str, changed: str | Setting) -> Any:  # noqa: ANN401 - a Setting or nothing
        """Calls the inventory's method of that verb for this class of settings."""
        change = getattr(self._inventory, f"{verb}_{self._resource.word}")
        answer = await change(changed, caller=access_of(request).caller)
        # Who changed something sees it at once, if it is this process that is asked. It is saved, anyhow.
        with suppress(Unavailable):
            await self._inventory.settings.latest()
        return answer


def settings_routes(inventory: Inventory) -> list[Route]:
    """The routes of all settings."""
    return [route for resource in RESOURCES for route in Settings(inventory, resource).routes()]


def _cursor(last: str) -> str:
    return urlsafe_b64encode(last.encode()).decode().rstrip("=")


def _read_cursor(text: str) -> str:
    try:
        last = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4)).decode()
    except ValueError as error:
        raise InvalidRequest("?cursor", "use next_cursor of the page before") from error
    if not last or _cursor(last) != text:
        raise InvalidRequest("?cursor", "use next_cursor of the page before")
    return last
