"""A stub of the server: the public interface in memory, with faults that can be planted."""

from __future__ import annotations

import asyncio
import heapq
import random
import threading
import time
from collections import defaultdict
from typing import Any
from urllib.parse import unquote

import msgspec


class StubServer:
    """One position table, one reservation table; each request is one atomic step."""

    def __init__(self) -> None:
        self.url = ""
        self.lose_replies = 0.0
        self.unconfirmed = 0.0
        self.oversell = False
        self.forget_keys = False
        self.forget_reservations = False
        self.leak_units = False
        self.without_items = False
        self.locations: dict[str, Any] = {}
        self.items: dict[str, Any] = {}
        self.sales: dict[str, dict[str, Any]] = {"pools": {}, "channels": {}}
        self.reservations: dict[str, dict[str, Any]] = {}
        self.movement_ids: set[str] = set()
        self.positions: dict[tuple[str, str], dict[str, int]] = defaultdict(
            lambda: {"on_hand": 0, "held": 0, "allocated": 0}
        )
        self.stocked: dict[str, set[str]] = defaultdict(set)
        self._deadlines: list[tuple[float, str]] = []
        self._answered: dict[str, tuple[int, bytes]] = {}
        self._chance = random.Random(7)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0

    def start(self) -> None:
        """Listen on a free port."""
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(5)

    def stop(self) -> None:
        """End the server's thread."""
        asyncio.run_coroutine_threadsafe(self._quiet(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def crash_and_return(self, *, away_s: float) -> None:
        """Cut every connection, refuse new ones for a while, and come back with all data."""

        async def crash() -> None:
            await self._quiet()
            await asyncio.sleep(away_s)
            while True:
                try:
                    return await self._listen()
                except OSError:  # A client that knocks may sit on the port for a moment.
                    await asyncio.sleep(0.01)

        asyncio.run_coroutine_threadsafe(crash(), self._loop)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._client, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    async def _quiet(self) -> None:
        # A connection that is being accepted while its server closes would be dropped half made.
        while accepting := [task for task in asyncio.all_tasks() if "accept" in str(task.get_coro())]:
            await asyncio.wait(accepting)
        if self._server is not None:
            self._server.close()
        await asyncio.sleep(0)  # A connection accepted just now gets its task first.
        while self._writers:
            for writer in self._writers:
                writer.transport.abort()
            await asyncio.sleep(0.001)

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._server is None or not self._server.is_serving():
            # Accepted in the moment before the server went away.
            writer.transport.abort()
            return
        self._writers.add(writer)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode().split("\r\n")
                method, path, _ = lines[0].split(" ")
                headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                writer.write(self._answer(method, path, headers.get("idempotency-key"), body))
                if method != "GET" and self._chance.random() < self.lose_replies:
                    writer.transport.abort()
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    def _answer(self, method: str, path: str, key: str | None, body: bytes) -> bytes:
        remembered = self._answered.get(key or "")
        replayed = remembered is not None and not self.forget_keys
        if replayed:
            status, content = remembered
        else:
            self._expire()
            status, spoken = self._route(method, path.partition("?")[0], body)
            content = msgspec.json.encode(spoken)
            if key and status < 400:
                self._answered[key] = (status, content)
        head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(content)}\r\n"
        if method == "POST" and self._chance.random() < self.unconfirmed:
            return b"HTTP/1.1 503 X\r\nRetry-After: 0\r\nContent-Length: 2\r\n\r\n{}"
        return (head + ("Idempotent-Replayed: true\r\n" if replayed else "") + "\r\n").encode() + content

    def _route(  # noqa: C901, PLR0911 - a table of routes
        self, method: str, path: str, body: bytes
    ) -> tuple[int, Any]:
        parts = [unquote(part) for part in path.split("/")[2:]]
        asked = msgspec.json.decode(body) if body else {}
        match method, *parts:
            case "POST", "reservations":
                return self._reserve(asked)
            case "POST", "reservations", known, verb:
                return self._step(known, verb, asked)
            case "GET", "reservations", known:
                found = self.reservations.get(known)
                if found and self.forget_reservations and found["state"] == "committed":
                    found = None
                return (200, self._told(found)) if found else (404, {"code": "reservation_not_found"})
            case "POST", "stock", "movements":
                return 207, {"results": [self._move(*pair) for pair in enumerate(asked["movements"])]}
            case "GET", "stock", sku:
                found = [
                    {"location": at, **self.positions[sku, at]} | self._available(sku, at)
                    for at in self.stocked[sku]
                ]
                return (200, {"sku": sku, "positions": found}) if found else (404, {})
            case "GET", "locations", known:
                return (200, self.locations[known]) if known in self.locations else (404, {})
            case "PUT", "locations", known:
                if asked.get("kind") not in {"store", "warehouse"}:
                    detail = {"pointer": "/kind", "detail": "one of warehouse, store"}
                    return 422, {"code": "invalid_request", "errors": [detail]}
                self.locations[known] = asked
                return 200, asked
            case "GET", ("pools" | "channels") as word, known:
                return (200, self.sales[word][known]) if known in self.sales[word] else (404, {})
            case "PUT", ("pools" | "channels") as word, known:
                self.sales[word][known] = asked
                return 201, {"id": known, **asked}
            case "PUT", "items", known if not self.without_items:
                self.items[known] = asked
                return 200, asked
        return 404, {"code": "not_found", "detail": path}

    def _move(self, index: int, movement: dict[str, Any]) -> dict[str, Any]:
        if movement["location"] not in self.locations:
            return {"index": index, "status": 404, "body": {"code": "location_not_found"}}
        position = self.positions[movement["sku"], movement["location"]]
        self.stocked[movement["sku"]].add(movement["location"])
        if movement["id"] not in self.movement_ids:
            self.movement_ids.add(movement["id"])
            position["on_hand"] += movement["quantity"]
        return {"index": index, "status": 200, "on_hand": position["on_hand"], "uncovered": []}

    def _reserve(self, asked: dict[str, Any]) -> tuple[int, Any]:
        units: dict[tuple[str, str], int] = defaultdict(int)
        for line in asked["lines"]:
            units[line["sku"], line["location"]] += line["quantity"]
        shortages = []
        for (sku, location), wanted in units.items():
            position = self.positions[sku, location]
            available = position["on_hand"] - position["held"] - position["allocated"]
            if wanted > available and not self.oversell:
                shortages.append(
                    {
                        "line": 0,
                        "sku": sku,
                        "location": location,
                        "requested": wanted,
                        "available": available,
                    }
                )
        if shortages:
            return 409, {"code": "insufficient_stock", "shortages": shortages}
        for at, wanted in units.items():
            self.positions[at]["held"] += wanted
        known = f"r_{len(self.reservations)}"
        ends = time.monotonic() + asked["ttl_seconds"]
        self.reservations[known] = {
            "id": known,
            "state": "held",
            "ends": ends,
            "units": units,
            "lines": asked["lines"],
        }
        heapq.heappush(self._deadlines, (ends, known))
        return 201, self._told(self.reservations[known])

    def _step(self, known: str, verb: str, asked: dict[str, Any]) -> tuple[int, Any]:
        found = self.reservations[known]
        before = found["state"]
        after = {
            "extend": "held",
            "release": "released",
            "fulfil": "fulfilled",
            "commit": "committed",
        }[verb]
        if asked.get("fulfil"):
            after = "fulfilled"
        for at, units in found["units"].items():
            position = self.positions[at]
            if before == "held" and after != "held":
                position["held"] -= units
                position["allocated"] += units if after == "committed" else 0
            if before == "committed" and after == "fulfilled":
                position["allocated"] -= units
            if before != "fulfilled" and after == "fulfilled":
                position["on_hand"] -= units - self.leak_units
        found["state"] = after
        return 200, self._told(found)

    def _available(self, sku: str, location: str) -> dict[str, int]:
        units = self.positions[sku, location]
        return {"available": units["on_hand"] - units["held"] - units["allocated"]}

    def _expire(self) -> None:
        now = time.monotonic()
        while self._deadlines and self._deadlines[0][0] <= now:
            found = self.reservations[heapq.heappop(self._deadlines)[1]]
            if found["state"] == "held" and found["ends"] <= now:
                found["state"] = "expired"
                for at, units in found["units"].items():
                    self.positions[at]["held"] -= units

    @staticmethod
    def _told(found: dict[str, Any]) -> dict[str, Any]:
        return {"id": found["id"], "state": found["state"], "lines": found["lines"]}
