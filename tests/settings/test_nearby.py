"""The grid finds what looking at every location finds."""

from math import inf

from hypothesis import example, given
from hypothesis import strategies as st

from engine import Location, LocationKind
from engine.nearby import MAX_RADIUS_KM, Grid, distance_km

LATITUDES = st.one_of(st.floats(-90, 90), st.sampled_from([-90.0, -89.99, -0.0, 0.5, 89.9999, 90.0]))
LONGITUDES = st.one_of(st.floats(-180, 180), st.sampled_from([-180.0, -179.999, 0.0, 0.5, 179.9999, 180.0]))
PLACES = st.tuples(LATITUDES, LONGITUDES)
RADII = st.one_of(st.floats(0.001, 300), st.floats(300, MAX_RADIUS_KM))


@given(
    here=PLACES, offsets=st.lists(st.tuples(st.floats(-4, 4), st.floats(-4, 4)), max_size=30), radius=RADII
)
@example(here=(89.9, 0.0), offsets=[(0.05, 4.0)], radius=15)
@example(here=(0.0, 180.0), offsets=[(0.0, 0.25), (0.0, -0.25)], radius=30)
@example(here=(-89.99, -180.0), offsets=[(-3.0, 4.0)], radius=0.9)
def test_as_if_all_were_looked_at(
    here: tuple[float, float], offsets: list[tuple[float, float]], radius: float
) -> None:
    places = [
        Location(
            f"s{number:02}",
            LocationKind.STORE,
            lat=max(-90.0, min(90.0, here[0] + north)),
            # Across the date line, and with it all around the poles.
            lon=(here[1] + east * (45 if number % 3 == 0 else 1) + 540) % 360 - 180,
        )
        for number, (north, east) in enumerate(offsets)
    ]
    wanted = sorted((distance_km(*here, place.lat or 0.0, place.lon or 0.0), place.id) for place in places)
    found = [(distance, place.id) for distance, place in Grid(places).near(*here, radius)]
    assert found == [(distance, name) for distance, name in wanted if distance <= radius]


@given(here=PLACES, places=st.lists(PLACES, max_size=40), radius=RADII)
def test_anywhere_on_earth(
    here: tuple[float, float], places: list[tuple[float, float]], radius: float
) -> None:
    known = [
        Location(f"s{number}", LocationKind.STORE, lat=lat, lon=lon)
        for number, (lat, lon) in enumerate(places)
    ]
    found = {place.id for _, place in Grid(known).near(*here, radius)}
    assert found == {
        place.id for place in known if distance_km(*here, place.lat or 0.0, place.lon or 0.0) <= radius
    }


def test_a_large_chain_is_not_looked_through() -> None:
    """Few cells are near: it takes the grid and not the list."""

    class Counted(dict[tuple[int, int], list[tuple[float, float, Location]]]):
        looked = 0

        def get(self, *key: object) -> object:  # type: ignore[override] - counts
            self.looked += 1
            return super().get(*key)  # type: ignore[call-overload] - passed on

        def values(self) -> object:  # type: ignore[override] - nobody may
            raise AssertionError("all cells were looked at")

    grid = Grid(
        Location(f"s{lat}{lon}", LocationKind.STORE, lat=lat, lon=lon)
        for lat in range(-60, 60, 2)
        for lon in range(-180, 180, 2)
    )
    grid._cells = counted = Counted(grid._cells)
    assert [place.lat for _, place in grid.near(10.1, 20.1, 30)] == [10]
    assert counted.looked <= 12


def test_known_distances() -> None:
    """Berlin to Munich; to the other side of the earth; nowhere."""
    assert abs(distance_km(52.52, 13.405, 48.1372, 11.5756) - 504.4) < 0.5
    assert abs(distance_km(0, 0, 0, 180) - 20_015.1) < 0.1
    assert distance_km(7, 7, 7, 7) == 0


def test_who_has_no_coordinates_is_nowhere() -> None:
    grid = Grid([Location("a", LocationKind.STORE), Location("b", LocationKind.STORE, lat=0.0, lon=0.0)])
    assert [(place.id, distance < inf) for distance, place in grid.near(0, 0, MAX_RADIUS_KM)] == [("b", True)]
