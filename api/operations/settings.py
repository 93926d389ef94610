"""The operations on locations, pools, channels and items."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from api import schemas_settings as schemas
from api.operations.model import CURSOR, LIMIT, LOCATION, READ, SKU, WRITE, Example, Operation, Parameter

_LOCATION: Example = {
    "id": "s7",
    "kind": "store",
    "name": "High Street",
    "lat": 39.1,
    "lon": -84.5,
    "priority": 0,
    "capabilities": ["pickup"],
    "active": True,
    "time_zone": "America/New_York",
    "gln": None,
    "policy": {"safety_stock": 1},
}
_POOL: Example = {"id": "online", "locations": ["w1", "s7"]}
_CHANNEL: Example = {"id": "web", "pools": ["online"], "buffer": {"units": 1}}
_ITEM: Example = {
    "sku": "BOX-1",
    "name": "Breakfast box",
    "unit": "piece",
    "gtins": ["04006381333931"],
    "components": [{"sku": "C-3", "quantity": 2}, {"sku": "B-2", "quantity": 1}],
    "tracked": True,
    "policy": None,
}


def _four(
    word: str,
    described: tuple[str, Mapping[str, Any], Example],
    structs: tuple[type[Struct], type[Struct], type[Struct]],
    *,
    names: str | None = None,
    in_use: str | None = None,
    deletable: str,
) -> tuple[Operation, ...]:
    """List, get, save and delete of one class. `names` is refused on saving, `in_use` on deleting."""
    (id_name, id_schema, example), (body, answer, page) = described, structs
    path, tag = f"/v1/{word}s", f"{word.capitalize()}s"
    parameter = Parameter(id_name, "path", id_schema, f"The {word}.", example[id_name])
    missing = f"{word}_not_found"
    return (
        Operation(
            method="GET",
            path=path,
            name=f"list_{word}s",
            tag=tag,
            summary=f"All {word}s, by {id_name}",
            parameters=(Parameter("limit", "query", LIMIT, "Items of a page."), CURSOR),
            answers={200: page},
            answer_example={"items": [example], "next_cursor": None},
            has_tag=True,
            problems=("invalid_request", *READ),
        ),
        Operation(
            method="GET",
            path=f"{path}/{{{id_name}}}",
            name=f"get_{word}",
            tag=tag,
            summary=_with_article(word),
            parameters=(parameter,),
            answers={200: answer},
            answer_example=example,
            has_tag=True,
            problems=(missing, "invalid_request", *READ),
        ),
        Operation(
            method="PUT",
            path=f"{path}/{{{id_name}}}",
            name=f"save_{word}",
            tag=tag,
            summary=f"Create or replace {_with_article(word).lower()}",
            parameters=(parameter,),
            key="optional",
            body=body,
            request_example={
                name: value for name, value in example.items() if name != id_name and value is not None
            },
            answers={200: answer, 201: answer},
            answer_example=example,
            problems=(*((names,) if names else ()), *WRITE),
        ),
        Operation(
            method="DELETE",
            path=f"{path}/{{{id_name}}}",
            name=f"delete_{word}",
            tag=tag,
            summary=f"Delete {_with_article(word).lower()} {deletable}".strip(),
            parameters=(parameter,),
            key="optional",
            answers={204: None},
            problems=(missing, *((in_use,) if in_use else ()), "invalid_request", *WRITE),
        ),
    )


def _with_article(word: str) -> str:
    return f"An {word}" if word[0] in "aeiou" else f"A {word}"


SETTINGS = (
    *_four(
        "location",
        ("id", LOCATION, _LOCATION),
        (schemas.LocationBody, schemas.LocationAnswer, schemas.LocationsAnswer),
        in_use="location_in_use",
        deletable="without positions that no pool names",
    ),
    *_four(
        "pool",
        ("id", LOCATION, _POOL),
        (schemas.PoolBody, schemas.PoolAnswer, schemas.PoolsAnswer),
        names="location_not_found",
        in_use="pool_in_use",
        deletable="that no channel sells from",
    ),
    *_four(
        "channel",
        ("id", LOCATION, _CHANNEL),
        (schemas.ChannelBody, schemas.ChannelAnswer, schemas.ChannelsAnswer),
        names="pool_not_found",
        in_use="channel_in_use",
        deletable="without fences",
    ),
    *_four(
        "item",
        ("sku", SKU, _ITEM),
        (schemas.ItemBody, schemas.ItemAnswer, schemas.ItemsAnswer),
        in_use="item_in_use",
        deletable="without positions that no kit has",
    ),
)
