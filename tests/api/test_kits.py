"""Kits and the carts of channels over HTTP."""

from tests.api.service import Service, expect_problem, fresh_key


def reserve(service: Service, lines: list[dict[str, object]], **rest: object) -> dict[str, object]:
    answer = service.ask(
        "POST", "/v1/reservations", {"lines": lines, **rest}, {"Idempotency-Key": fresh_key()}
    )
    assert answer.status == 201, answer.json()
    return answer.json()


def test_a_kit_is_sold_from_the_moment_it_is_saved(service: Service) -> None:
    """Read, asked for among others, reserved by place, in other lines: always by its components."""
    part, place = service.stocked(7)
    kit = f"{part}-kit"
    expect_problem(service.ask("GET", f"/v1/availability/{kit}"), 404, "sku_not_found")
    components = {"components": [{"sku": part, "quantity": 3}]}
    assert service.ask("PUT", f"/v1/items/{kit}", components).status == 201
    asked = {"skus": [kit, part], "detail": True}
    items = service.ask("POST", "/v1/availability/query", asked).json()["items"]
    assert [(item["available"], item["known"]) for item in items] == [(2, True), (7, True)]
    assert service.ask("GET", f"/v1/availability/{kit}?quantity=2").json()["can_reserve"] is True
    made = reserve(service, [{"sku": kit, "quantity": 1, "location": place}], owner=part)
    assert [(line["sku"], line["held"]) for line in made["lines"]] == [(part, 3)]
    assert service.ask("GET", f"/v1/availability/{kit}").json()["available"] == 1
    assert service.ask("GET", f"/v1/availability/{kit}?owner={part}").json()["available"] == 2
    lines = {"lines": [{"sku": kit, "quantity": 2, "location": place}]}
    path = f"/v1/reservations/{made['id']}/lines"
    changed = service.ask("PUT", path, lines, {"Idempotency-Key": fresh_key()})
    assert [(line["sku"], line["held"]) for line in changed.json()["lines"]] == [(part, 6)]
    lines = {"lines": [{"sku": kit, "quantity": 3, "location": place}]}
    refused = service.ask("PUT", path, lines, {"Idempotency-Key": fresh_key()})
    expect_problem(refused, 409, "insufficient_stock")


def test_the_number_of_a_kit_is_explained_by_its_components(service: Service) -> None:
    """Plainly and by pool: each component with its sum, and how many the kit needs."""
    part, place = service.stocked(7)
    kit, missing = f"{part}-kit", f"{part}-gone"
    components = {"components": [{"sku": part, "quantity": 3}]}
    assert service.ask("PUT", f"/v1/items/{kit}", components).status == 201
    assert service.ask("PUT", f"/v1/pools/{part[-8:]}", {"locations": [place]}).status == 201
    reserve(service, [{"sku": part, "quantity": 2, "location": place}], owner=part)
    for query in ("explain=true", f"explain=true&pool={part[-8:]}"):
        told = service.ask("GET", f"/v1/availability/{kit}?{query}").json()
        assert (told["available"], told["locations"][0]["available"]) == (1, 1)
        (own,) = told["components"]
        assert (own["sku"], own["quantity"], own["available"]) == (part, 3, 5)
        reasons = own["locations"][0]["explanation"]
        assert reasons["text"] == "5 = 7 on hand − 2 held"
        assert [holder["owner"] for holder in reasons["holders"]] == [part]
    told = service.ask("GET", f"/v1/availability/{kit}?explain=true&quantity=2&owner={part}").json()
    assert (told["available"], told["can_reserve"], told["components"][0]["available"]) == (2, True, 7)
    assert "components" not in service.ask("GET", f"/v1/availability/{part}?explain=true").json()
    assert "components" not in service.ask("GET", f"/v1/availability/{kit}").json()
    components["components"].append({"sku": missing, "quantity": 1})
    assert service.ask("PUT", f"/v1/items/{kit}", components).status == 200
    expect_problem(service.ask("GET", f"/v1/availability/{kit}?explain=true"), 404, "sku_not_found")


def test_the_cart_of_a_channel(service: Service) -> None:
    """What the cart holds counts as free to it, of its channel's fence as well; near a place by channel."""
    sku, place = service.stocked(10)
    name = f"web-{sku[-8:]}"
    assert service.ask("PUT", f"/v1/pools/{name}", {"locations": [place]}).status == 201
    channel = {"pools": [name], "buffer": {"units": 1}}
    assert service.ask("PUT", f"/v1/channels/{name}", channel).status == 201
    assert service.ask("PUT", f"/v1/fences/{name}/{sku}/{place}", {"quantity": 4}).status == 201
    reserve(service, [{"sku": sku, "quantity": 3}], channel=name, owner=sku)
    path = f"/v1/availability/{sku}?channel={name}"
    assert service.ask("GET", path).json()["available"] == 1
    told = service.ask("GET", f"{path}&owner={sku}&quantity=4").json()
    assert (told["available"], told["can_reserve"]) == (4, True)
    assert service.ask("GET", f"{path}&owner={sku}&quantity=5").json()["can_reserve"] is False
    assert service.ask("GET", f"{path}&owner=nobody").json()["available"] == 1
    told = service.ask("GET", f"{path}&explain=true").json()["locations"][0]
    assert (told["available"], told["explanation"]["text"]) == (1, f"1 for {name}: 1 in its fence")
    body = {"quantity": 4, "spill": True}
    assert service.ask("PUT", f"/v1/fences/{name}/{sku}/{place}", body).status == 200
    told = service.ask("GET", f"{path}&explain=true&quantity=6").json()
    place_told = told["locations"][0]
    assert (place_told["available"], told["can_reserve"]) == (6, True)
    beside = f"6 = 10 on hand − 3 held − 1 fenced for {name}, less a buffer of 1"
    assert place_told["explanation"]["text"] == f"6 for {name}: 1 in its fence; beside it {beside}"
    pool = service.ask("GET", f"/v1/availability/{sku}?pool={name}&explain=true").json()["locations"][0]
    assert pool["explanation"]["text"] == f"6 = 10 on hand − 3 held − 1 fenced for {name}"


def test_a_kit_of_what_nobody_stocks_names_its_components(service: Service) -> None:
    """Who asks for the kit may not know what is in it."""
    part, _ = service.stocked(7)
    kit, missing = f"{part}-kit", f"{part}-missing"
    components = {"components": [{"sku": part, "quantity": 1}, {"sku": missing, "quantity": 1}]}
    assert service.ask("PUT", f"/v1/items/{kit}", components).status == 201
    problem = expect_problem(service.ask("GET", f"/v1/availability/{kit}"), 404, "sku_not_found")
    assert problem["detail"].startswith(f"{kit} (a kit of {part}, {missing})")
