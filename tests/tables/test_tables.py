"""Each row of the scenario tables, on the model and on servers."""

import asyncio

from engine import keys
from tests.driver import LOCATIONS, RETENTION_SECONDS, START_MS, open_shop
from tests.model import Model
from tests.servers import Control, Server
from tests.tables.rows import ROWS
from tests.tables.table import Names, play_on_model, play_on_server


def test_the_model_answers_as_the_tables_say(partitions: int) -> None:
    """The model, and with it every test that compares with it, follows the documents row by row."""
    wrong = []
    for name, row in ROWS.items():
        model = Model(
            set(LOCATIONS),
            RETENTION_SECONDS * 1000,
            lambda sku: keys.partition_of(sku, partitions),
            START_MS,
        )
        found = play_on_model(row, model, Names(partitions))
        if found != (row.told, row.after):
            wrong.append(f"{name}\n    expected {row.told} | {row.after}\n    found    {' | '.join(found)}")
    assert not wrong, "\n".join(wrong)


def test_a_server_answers_as_the_tables_say(
    server: Server, control: Control, partitions: int, runner: asyncio.Runner
) -> None:
    """The engine on a real server answers and counts as each row says."""

    async def play_all() -> list[str]:
        wrong, names = [], Names(partitions)
        for name, row in ROWS.items():
            shop = await open_shop(server.url, control, partitions)
            try:
                found = await play_on_server(row, shop, names)
            finally:
                await shop.inventory.close()
            if found != (row.told, row.after):
                expected = f"{row.told} | {row.after}"
                wrong.append(f"{name}\n    expected {expected}\n    found    {' | '.join(found)}")
        return wrong

    wrong = runner.run(play_all())
    assert not wrong, "\n".join(wrong)
