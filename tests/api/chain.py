"""A small chain of stores for the tests of what HTTP promises, and short words to ask with."""

from typing import Any
from uuid import uuid4

from tests.api.service import Answer, Service, fresh_key


def name(kind: str) -> str:
    return f"{kind}-{uuid4().hex[:10]}"


def keyed(key: str | None = None) -> dict[str, str]:
    return {"Idempotency-Key": key or fresh_key()}


def post(service: Service, path: str, body: object = None, key: str | None = None) -> Answer:
    """With a key of its own, unless one is given."""
    return service.ask("POST", path, body, keyed(key))


def get(service: Service, path: str) -> Any:  # noqa: ANN401 - a JSON document
    answer = service.ask("GET", path)
    assert answer.status == 200, answer
    return answer.json()


def put(service: Service, path: str, body: object) -> Any:  # noqa: ANN401 - a JSON document
    answer = service.ask("PUT", path, body)
    assert answer.status in {200, 201}, answer
    return answer.json()


class Chain:
    """Three stores with one SKU, a pool of two of them, a channel that sells from the pool."""

    def __init__(self, service: Service, *, buffer: dict[str, int] | None = None) -> None:
        self.service = service
        self.sku, self.pool, self.channel = name("sku"), name("pool"), name("channel")
        self.first, self.second, self.other = (name("store") for _ in range(3))
        settings = {
            self.first: {"priority": 1, "lat": 52.52, "lon": 13.40, "capabilities": ["pickup", "ship"]},
            self.second: {"priority": 2, "lat": 52.40, "lon": 13.06, "capabilities": ["pickup"]},
            self.other: {"priority": 3, "lat": 48.14, "lon": 11.58, "capabilities": ["ship"]},
        }
        for (place, more), units in zip(settings.items(), (3, 5, 7), strict=True):
            put(service, f"/v1/locations/{place}", {"kind": "store", **more})
            service.receive(self.sku, place, units)
        put(service, f"/v1/pools/{self.pool}", {"locations": [self.first, self.second]})
        channel = {"pools": [self.pool]} if buffer is None else {"pools": [self.pool], "buffer": buffer}
        put(service, f"/v1/channels/{self.channel}", channel)

    def reserve(self, quantity: int, **more: Any) -> Answer:  # noqa: ANN401 - fields of a JSON document
        return post(
            self.service, "/v1/reservations", {"lines": [{"sku": self.sku, "quantity": quantity}], **more}
        )

    def placed(self, quantity: int, **more: Any) -> list[tuple[str, int]]:  # noqa: ANN401 - same
        """Where so many units would be taken from."""
        answer = self.reserve(quantity, **more)
        assert answer.status == 201, answer
        made = answer.json()
        assert self.service.ask("POST", f"/v1/reservations/{made['id']}/release").status == 200
        return [(line["location"], line["quantity"]) for line in made["lines"]]
