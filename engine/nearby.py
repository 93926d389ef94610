"""Which locations are near a place: a grid over the globe, so that only near cells are looked at."""

from collections.abc import Iterable, Iterator, Sequence
from math import asin, ceil, cos, degrees, floor, radians, sin, sqrt

from engine.types import Location

EARTH_KM = 6371.0088
"""The mean radius of the earth. It is no sphere: distances are right to half a percent."""
MAX_RADIUS_KM = 20_040
"""Half way around."""
CELL_DEGREES = 0.5
_COLUMNS = int(360 / CELL_DEGREES)
_SLACK = 1e-9
"""Degrees: so that rounding does not cut off what lies on the edge of a cell."""


def distance_km(lat: float, lon: float, other_lat: float, other_lon: float) -> float:
    """How far two places are apart, by the haversine formula."""
    north, east = radians(other_lat - lat) / 2, radians(other_lon - lon) / 2
    chord = sin(north) ** 2 + cos(radians(lat)) * cos(radians(other_lat)) * sin(east) ** 2
    return 2 * EARTH_KM * asin(min(1.0, sqrt(chord)))


class Grid:
    """The locations that have coordinates, by cells of half a degree."""

    def __init__(self, locations: Iterable[Location]) -> None:
        self._cells: dict[tuple[int, int], list[tuple[float, float, Location]]] = {}
        for location in locations:
            if location.lat is not None and location.lon is not None:
                cell = _row(location.lat), _column(location.lon)
                self._cells.setdefault(cell, []).append((location.lat, location.lon, location))

    def near(self, lat: float, lon: float, radius_km: float) -> Sequence[tuple[float, Location]]:
        """The locations within a radius and how far each is, the nearest first, of equals the first by id."""
        found = [
            (distance, location)
            for other_lat, other_lon, location in self._candidates(lat, lon, radius_km)
            if (distance := distance_km(lat, lon, other_lat, other_lon)) <= radius_km
        ]
        return sorted(found, key=lambda one: (one[0], one[1].id))

    def _candidates(
        self, lat: float, lon: float, radius_km: float
    ) -> Iterator[tuple[float, float, Location]]:
        angle = degrees(radius_km / EARTH_KM) + _SLACK
        rows = range(_row(max(lat - angle, -90)), _row(min(lat + angle, 90)) + 1)
        columns = self._columns(lat, lon, angle)
        if len(rows) * len(columns) > len(self._cells):
            for cell in self._cells.values():
                yield from cell
            return
        for row in rows:
            for column in columns:
                yield from self._cells.get((row, column), ())

    def _columns(self, lat: float, lon: float, angle: float) -> Sequence[int]:
        """The columns that a circle touches, each once: all of them where it goes around a pole."""
        if abs(lat) + angle >= 90:  # noqa: PLR2004 - the pole
            return range(_COLUMNS)
        width = degrees(asin(min(1.0, sin(radians(angle)) / cos(radians(lat))))) + _SLACK
        first, count = floor((lon - width + 180) / CELL_DEGREES), ceil(2 * width / CELL_DEGREES) + 1
        if count >= _COLUMNS:
            return range(_COLUMNS)
        return [(first + step) % _COLUMNS for step in range(count)]


def _row(lat: float) -> int:
    return floor((lat + 90) / CELL_DEGREES)


def _column(lon: float) -> int:
    return floor((lon + 180) / CELL_DEGREES) % _COLUMNS
