"""The operations on locations."""

from api import schemas
from api.operations.model import CURSOR, LIMIT, LOCATION, READ, WRITE, Example, Operation, Parameter

_PLACE = Parameter("id", "path", LOCATION, "The location.", "s7")
_PLACE_EXAMPLE: Example = {
    "id": "s7",
    "kind": "store",
    "name": "High Street",
    "lat": 39.1,
    "lon": -84.5,
    "priority": 0,
    "capabilities": ["pickup"],
    "active": True,
    "time_zone": None,
    "gln": None,
}

LOCATIONS = (
    Operation(
        method="GET",
        path="/v1/locations",
        name="list_locations",
        tag="Locations",
        summary="All locations, by id",
        parameters=(Parameter("limit", "query", LIMIT, "Items of a page."), CURSOR),
        answers={200: schemas.LocationsAnswer},
        answer_example={"items": [_PLACE_EXAMPLE], "next_cursor": None},
        problems=("invalid_request", *READ),
    ),
    Operation(
        method="GET",
        path="/v1/locations/{id}",
        name="get_location",
        tag="Locations",
        summary="A location",
        parameters=(_PLACE,),
        answers={200: schemas.LocationAnswer},
        answer_example=_PLACE_EXAMPLE,
        problems=("location_not_found", "invalid_request", *READ),
    ),
    Operation(
        method="PUT",
        path="/v1/locations/{id}",
        name="save_location",
        tag="Locations",
        summary="Create or replace a location",
        parameters=(_PLACE,),
        key="optional",
        body=schemas.LocationBody,
        request_example={"kind": "store", "name": "High Street", "capabilities": ["pickup"]},
        answers={200: schemas.LocationAnswer, 201: schemas.LocationAnswer},
        answer_example=_PLACE_EXAMPLE,
        problems=WRITE,
    ),
    Operation(
        method="DELETE",
        path="/v1/locations/{id}",
        name="delete_location",
        tag="Locations",
        summary="Delete a location without positions",
        parameters=(_PLACE,),
        key="optional",
        answers={204: None},
        problems=("location_not_found", "location_in_use", "invalid_request", *WRITE),
    ),
)
