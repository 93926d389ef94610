"""Many callers at once: the last unit is promised once, and a key is one reservation."""

import asyncio
import json
from collections import Counter

from tests.api.service import Answer, Service, fresh_key, raw_request, read_answer


async def _all_at_once(port: int, requests: list[bytes]) -> list[Answer]:
    """Sends each request on a connection of its own, all of them in the same moment."""
    connections = await asyncio.gather(*(asyncio.open_connection("127.0.0.1", port) for _ in requests))
    for (_, writer), request in zip(connections, requests, strict=True):
        writer.write(request)
    answers = await asyncio.gather(*(read_answer(reader) for reader, _ in connections))
    for _, writer in connections:
        writer.close()
    return answers


def _reserve(sku: str, location: str, key: str) -> bytes:
    body = {"lines": [{"sku": sku, "quantity": 1, "location": location}]}
    return raw_request("POST", "/v1/reservations", body, Idempotency_Key=key)


async def test_the_last_unit_is_promised_once(service: Service) -> None:
    """200 callers, each of whom sends its request twice."""
    sku, location = service.stocked(1)
    keys = [fresh_key() for _ in range(200)]
    requests = [_reserve(sku, location, key) for key in keys for _ in range(2)]
    answers = await _all_at_once(service.port, requests)
    won = [answer for answer in answers if answer.status == 201]
    lost = [answer for answer in answers if answer.status == 409]
    assert len(won) + len(lost) == 400
    assert len({answer.json()["id"] for answer in won}) == 1
    assert {answer.json()["code"] for answer in lost} == {"insufficient_stock"}
    assert len({index // 2 for index, answer in enumerate(answers) if answer.status == 201}) == 1
    position = service.position(sku, location)
    assert (position["held"], position["available"]) == (1, 0)


async def test_200_callers_for_the_last_unit(service: Service) -> None:
    sku, location = service.stocked(1)
    requests = [_reserve(sku, location, fresh_key()) for _ in range(200)]
    answers = await _all_at_once(service.port, requests)
    assert Counter(answer.status for answer in answers) == {201: 1, 409: 199}


async def test_a_drop_is_answered_whole(hot_service: Service) -> None:
    """1,500 callers at once for the last unit: each is told whether it got it, none to come again."""
    sku, location = hot_service.stocked(1)
    requests = [_reserve(sku, location, fresh_key()) for _ in range(1500)]
    answers = await _all_at_once(hot_service.port, requests)
    assert Counter(answer.status for answer in answers) == {201: 1, 409: 1499}


async def test_many_batches_at_once_are_all_let_in(hot_service: Service) -> None:
    """64 connections that send batches of a hundred, one after the other, for longer than it takes the
    worker to think about its limit.
    """
    sku, location = hot_service.stocked(64 * 100 * 4)
    body = {"lines": [{"sku": sku, "quantity": 1, "location": location}]}

    def batch() -> bytes:
        operations = [{"op": "reserve", "key": fresh_key(), "body": body} for _ in range(100)]
        return raw_request("POST", "/v1/reservations/batch", {"operations": operations})

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> list[int]:
        statuses = []
        for request in [batch() for _ in range(4)]:
            writer.write(request)
            answer = await read_answer(reader)
            statuses += [result["status"] for result in answer.json().get("results", [answer.json()])]
        writer.close()
        return statuses

    opened = [await asyncio.open_connection("127.0.0.1", hot_service.port) for _ in range(64)]
    found = await asyncio.gather(*(one(*connection) for connection in opened))
    assert Counter(status for statuses in found for status in statuses) == {201: 64 * 100 * 4}


async def test_one_key_is_one_reservation(service: Service) -> None:
    sku, location = service.stocked(1000)
    key = fresh_key()
    answers = await _all_at_once(service.port, [_reserve(sku, location, key)] * 60)
    assert {answer.status for answer in answers} == {201}
    assert len({answer.body for answer in answers}) == 1
    assert sum("idempotent-replayed" not in answer.headers for answer in answers) == 1
    assert service.position(sku, location)["held"] == 1


async def test_both_workers_promise_the_same_stock(hot_service: Service, asgi_service: Service) -> None:
    sku, location = hot_service.stocked(10)
    requests = [_reserve(sku, location, fresh_key()) for _ in range(50)]
    both = await asyncio.gather(
        _all_at_once(hot_service.port, requests[:25]), _all_at_once(asgi_service.port, requests[25:])
    )
    statuses = Counter(answer.status for answers in both for answer in answers)
    assert statuses == {201: 10, 409: 40}
    assert hot_service.position(sku, location)["available"] == 0


async def test_commits_and_releases_of_one_reservation(service: Service) -> None:
    """Sixty callers resolve one reservation in two ways: one way wins, for all of them."""
    sku, location = service.stocked(5)
    held = service.reserve([(sku, location, 2)]).json()["id"]
    requests = [
        raw_request("POST", f"/v1/reservations/{held}/{verb}", {}) for verb in ("commit", "release") * 30
    ]
    answers = await _all_at_once(service.port, requests)
    statuses = Counter(answer.status for answer in answers)
    assert statuses == {200: 30, 409: 30}
    assert len({answer.json()["state"] for answer in answers if answer.status == 200}) == 1
    position = service.position(sku, location)
    assert (position["held"], position["allocated"]) in {(0, 2), (0, 0)}


async def test_movements_of_one_position_keep_their_order(service: Service) -> None:
    """More of them than one script call takes, so several calls must follow one another."""
    sku, location = service.stocked(1)
    count = 1500
    movements = [
        {"id": fresh_key(), "kind": "adjust", "sku": sku, "location": location, "quantity": 1}
        for _ in range(count)
    ]
    request = raw_request("POST", "/v1/stock/movements", {"movements": movements})
    (answer,) = await _all_at_once(service.port, [request])
    assert answer.status == 207
    results = json.loads(answer.body)["results"]
    assert [result["index"] for result in results] == list(range(count))
    assert [result["on_hand"] for result in results] == list(range(2, count + 2))
