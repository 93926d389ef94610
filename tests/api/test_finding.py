"""Lists of reservations, holders, and availability for an owner or with its reasons, over HTTP."""

from urllib.parse import quote
from uuid import uuid4

import pytest

from tests.api.service import Service, expect_problem

HOSTILE = ("a&b=c", "100 %", "x/../y?z#", "é\u2028\U0001f600", " ", '"quoted"', "line\nbreak", "n\0ul", "+1")


@pytest.fixture
def service(service: Service) -> Service:
    """One whose lists are there."""
    service.await_lists()
    return service


def list_all(service: Service, query: str, limit: int = 2) -> list[str]:
    """The ids of all pages."""
    found, cursor = list[str](), ""
    while True:
        answer = service.ask("GET", f"/v1/reservations?{query}&limit={limit}{cursor}")
        assert answer.status == 200, answer
        page = answer.json()
        assert set(page) == {"items", "next_cursor"}
        assert len(page["items"]) <= limit
        found += [one["id"] for one in page["items"]]
        if page["next_cursor"] is None:
            return found
        cursor = f"&cursor={page['next_cursor']}"


def test_reservations_are_found_by_what_is_known_of_them(service: Service) -> None:
    """Newest first, page by page, at once after they were made, and as a read of each shows them."""
    sku, location = service.stocked(100)
    other, _ = service.stocked(100)
    owner, reference = f"cart-{uuid4().hex}", f"order-{uuid4().hex}"
    made = [
        service.reserve([(sku, location, 1)], owner=owner, reference=reference if number % 2 else None).json()
        for number in range(5)
    ]
    ids = [one["id"] for one in reversed(made)]
    assert list_all(service, f"owner={owner}") == ids
    assert list_all(service, f"sku={sku}") == ids
    assert list_all(service, f"location={location}&state=held") == ids
    assert list_all(service, f"reference={reference}") == ids[1::2]
    assert list_all(service, f"owner={owner}&sku={other}") == []
    assert list_all(service, f"owner={uuid4().hex}") == []
    (newest,) = service.ask("GET", "/v1/reservations?limit=1").json()["items"]
    assert newest == service.ask("GET", f"/v1/reservations/{newest['id']}").json() == made[-1]
    service.ask("POST", f"/v1/reservations/{ids[0]}/release")
    service.ask("POST", f"/v1/reservations/{ids[1]}/commit", {"reference": "billed-" + reference})
    assert list_all(service, f"owner={owner}&state=held") == ids[2:]
    assert list_all(service, f"owner={owner}&state=released") == ids[:1]
    assert list_all(service, f"reference=billed-{reference}") == ids[1:2]
    assert list_all(service, f"reference={reference}") == ids[3:4]


def test_pages_stay_where_they_are(service: Service) -> None:
    """What comes while somebody reads on is on no later page, and nothing is told twice."""
    sku, location = service.stocked(100)
    before = [service.reserve([(sku, location, 1)]).json()["id"] for _ in range(6)]
    first = service.ask("GET", f"/v1/reservations?sku={sku}&limit=3").json()
    service.reserve([(sku, location, 1)])
    rest = service.ask("GET", f"/v1/reservations?sku={sku}&limit=10&cursor={first['next_cursor']}").json()
    assert [one["id"] for one in first["items"] + rest["items"]] == before[::-1]
    foreign = service.ask("GET", f"/v1/reservations?limit=3&cursor={first['next_cursor']}")
    expect_problem(foreign, 422, "invalid_request", pointer="?cursor")


@pytest.mark.parametrize("text", HOSTILE)
def test_any_text_can_be_an_owner(service: Service, text: str) -> None:
    """And is found by itself alone, not by what begins like it."""
    sku, location = service.stocked(10)
    owner = uuid4().hex + text
    made = service.reserve([(sku, location, 1)], owner=owner, reference=owner).json()["id"]
    service.reserve([(sku, location, 1)], owner=owner + "x", reference=owner + "\0")
    assert list_all(service, f"owner={quote(owner, safe='')}") == [made]
    assert list_all(service, f"reference={quote(owner, safe='')}") == [made]
    found = service.ask("GET", f"/v1/availability/{sku}?owner={quote(owner, safe='')}").json()
    assert found["available"] == 9


def test_an_owner_does_not_see_its_own_holds(service: Service) -> None:
    """Held units alone: what it has committed is gone for it, too."""
    sku, location = service.stocked(10)
    mine = service.reserve([(sku, location, 4)], owner="me").json()["id"]
    service.reserve([(sku, location, 3)], owner="you")
    path = f"/v1/availability/{sku}"
    plain = service.ask("GET", path)
    assert plain.json()["available"] == 3
    own = service.ask("GET", f"{path}?owner=me&location={location}&quantity=7")
    assert (own.json()["available"], own.json()["can_reserve"]) == (7, True)
    assert set(own.json()) == set(plain.json()) | {"can_reserve"}
    assert own.headers["etag"] != plain.headers["etag"]
    assert service.ask("GET", f"{path}?owner=nobody").headers["etag"] == plain.headers["etag"]
    service.ask("POST", f"/v1/reservations/{mine}/commit")
    assert service.ask("GET", f"{path}?owner=me").json()["available"] == 3
    expect_problem(service.ask("GET", "/v1/availability/none?owner=me"), 404, "sku_not_found")
    expect_problem(service.ask("GET", f"{path}?owner=me&location=none"), 404, "location_not_found")


def test_a_number_is_explained(service: Service) -> None:
    """The sum in words and in numbers, the first few holders and how many more there are."""
    sku, location = service.stocked(30)
    empty = service.open_location()
    made = [service.reserve([(sku, location, 2)], owner=f"o{number}").json()["id"] for number in range(7)]
    service.ask("POST", f"/v1/reservations/{made[0]}/commit")
    path = f"/v1/availability/{sku}?explain=true"
    answer = service.ask("GET", path).json()
    (place,) = answer["locations"]
    explanation = place["explanation"]
    assert (answer["available"], place["available"], answer["status"]) == (16, 16, "in_stock")
    assert explanation["text"] == "16 = 30 on hand − 12 held − 2 allocated"
    counted = ("on_hand", "held", "allocated", "unsellable", "safety_stock", "fenced", "own_held")
    assert [explanation[name] for name in counted] == [30, 12, 2, 0, 0, 0, 0]
    assert [one["reservation"] for one in explanation["holders"]] == made[:5]
    assert explanation["more_holders"] == 2
    own = service.ask("GET", f"{path}&owner=o3&quantity=18").json()
    assert (own["available"], own["can_reserve"]) == (18, True)
    text = "18 = 30 on hand − 12 held − 2 allocated + 2 of its own"
    assert own["locations"][0]["explanation"]["text"] == text
    both = service.ask("GET", f"{path}&location={empty}&location={location}").json()["locations"]
    assert [one["location"] for one in both] == [empty, location]
    assert both[0] == {"location": empty, "available": 0, "status": "out_of_stock", "explanation": None}
    expect_problem(service.ask("GET", f"{path}&location=none"), 404, "location_not_found")
    expect_problem(service.ask("GET", "/v1/availability/none?explain=true"), 404, "sku_not_found")
    assert (
        "explanation"
        not in service.ask("GET", f"/v1/availability/{sku}?explain=false").json()["locations"][0]
    )


def test_holders_come_page_by_page(service: Service) -> None:
    """The oldest promise first; one that goes meanwhile hides none of the others."""
    sku, location = service.stocked(100)
    made = [service.reserve([(sku, location, 1)]).json()["id"] for _ in range(40)]
    path = f"/v1/stock/{sku}/{location}/holders"
    first = service.ask("GET", f"{path}?limit=7").json()
    assert [one["reservation"] for one in first["holders"]] == made[:7]
    for gone in (made[2], made[6], made[9]):
        service.ask("POST", f"/v1/reservations/{gone}/release")
    late = service.reserve([(sku, location, 1)]).json()["id"]
    rest, cursor = list[str](), first["next_cursor"]
    while cursor is not None:
        page = service.ask("GET", f"{path}?limit=5&cursor={cursor}").json()
        rest += [one["reservation"] for one in page["holders"]]
        cursor = page["next_cursor"]
    assert rest == [one for one in made[7:] if one != made[9]] + [late]
    foreign = service.open_location()
    service.receive(sku, foreign, 1)
    other = service.ask("GET", f"/v1/stock/{sku}/{foreign}/holders?cursor={first['next_cursor']}")
    expect_problem(other, 422, "invalid_request", pointer="?cursor")
    for bad in ("", "AAAA", "%2A", "A" * 40):
        answer = service.ask("GET", f"{path}?cursor={bad}")
        expect_problem(answer, 422, "invalid_request", pointer="?cursor")
