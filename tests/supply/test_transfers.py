import pytest

from engine.audit import audit
from engine.errors import AlreadyClosed
from engine.types import Goods, TransferState
from tests.driver import Shop
from tests.supply.goods import make_stock, stand

TWO = [Goods("mug", 5), Goods("tea", 2)]


async def test_a_transfer_that_comes_whole(wide: Shop) -> None:
    """Draft, shipped, received: units leave the source, are inbound, and are at the target."""
    shop = wide.inventory
    await make_stock(shop, "s1", mug=10, tea=1)
    draft = await shop.create_transfer("t1", source="s1", target="s2", lines=TWO, reference="order-7")
    assert (draft.state, draft.reference, draft.replayed) == (TransferState.DRAFT, "order-7", False)
    assert await stand(shop, "mug") == {"s1": (10, 0)}
    shipped = await shop.ship_transfer(draft.id)
    assert shipped.state is TransferState.SHIPPED
    assert await stand(shop, "mug") == {"s1": (5, 0), "s2": (0, 5)}
    assert await stand(shop, "tea") == {"s1": (-1, 0), "s2": (0, 2)}
    assert (await shop.ship_transfer(draft.id)) == shipped
    received = await shop.receive_transfer(draft.id)
    assert received.state is TransferState.RECEIVED
    assert [(line.quantity, line.received) for line in received.lines] == [(5, 5), (2, 2)]
    assert await stand(shop, "mug") == {"s1": (5, 0), "s2": (5, 0)}
    assert await stand(shop, "tea") == {"s1": (-1, 0), "s2": (2, 0)}
    assert (await shop.receive_transfer(draft.id)) == received == await shop.transfer(draft.id)
    with pytest.raises(AlreadyClosed):
        await shop.cancel_transfer(draft.id)
    assert (await audit(shop)).is_clean
