from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import redis
import typer.main

from api.cli import app
from api.options import EPILOG
from api.settings import ALL, option_of
from engine import keys
from tests.cli.served import BINCARD, Start


def bincard(
    *arguments: str, directory: Path, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs one command to its end."""
    done = subprocess.run(
        [str(BINCARD), *arguments],
        cwd=directory,
        env={"PATH": "/usr/bin:/bin", **(environment or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done


def test_version(tmp_path: Path) -> None:
    """The version is that of the installed package."""
    assert bincard("--version", directory=tmp_path).stdout == f"bincard {version('bincard')}\n"


def test_every_setting_is_an_option_and_every_option_a_setting() -> None:
    """Nothing can be told in one way only."""
    told = {option_of(name) for kind in ALL for name in kind.__struct_fields__}
    offered = set()
    commands = [typer.main.get_command(app)]
    while commands:
        command = commands.pop()
        commands += getattr(command, "commands", {}).values()
        for option in command.params:
            offered |= {word for word in option.opts if word.startswith("--")}
    assert offered - {"--version"} == told


def test_help_tells_of_environment_and_file(tmp_path: Path) -> None:
    """Each command's help has a sentence on what it does and on the other ways to set options."""
    plain = ("serve", "worker", "audit", "explain", "doctor", "repartition", "demo", "replay")
    commands = (*plain, "load stock")
    for command in commands:
        shown = bincard(*command.split(), "--help", directory=tmp_path)
        assert shown.returncode == 0
        text = " ".join(shown.stdout.split())
        assert EPILOG in text
        assert re.search(r"\[OPTIONS\]( \{?(SKU|FILE)\}?)?( \[LOCATION\])? [A-Z].*\. ", text), text


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("serv",), 2, "No such command"),
        (("serve", "--port", "x"), 2, "--port"),
        (("replay", "--baskets", "0"), 2, "--baskets is 0: it must be a whole number above zero"),
        (("replay", "--url", "nonsense", "--source", "generator"), 1, "nonsense"),
        (("load", "stock", "gone.csv"), 2, "gone.csv"),
        (("demo", "--url", "http://127.0.0.1:1"), 1, "127.0.0.1:1"),
        (("audit",), 2, "there are no books in data: name their directory with --data-dir"),
        (("worker",), 2, "no server runs on the data directory data"),
        (("doctor", "--redis-url", "redis://127.0.0.1:1"), 1, "the server cannot be reached"),
        (("explain", "A-1", "--redis-url", "x://y"), 1, "x:// is no scheme of a server"),
    ],
)
def test_mistakes_are_told_in_one_line(
    tmp_path: Path, arguments: tuple[str, ...], status: int, words: str
) -> None:
    """2 for what was typed wrong, 1 for what went wrong; never a traceback."""
    done = bincard(*arguments, directory=tmp_path)
    assert done.returncode == status, done.stderr
    assert words in done.stderr.splitlines()[-1]
    assert done.stdout == ""


def test_a_command_starts_quickly() -> None:
    """What a command does is imported when it is called."""
    heavy = {"fastapi", "uvicorn", "redis", "engine", "rich.progress", "uvloop"}
    program = f"import api.cli, sys; print(sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "[]\n"


def test_the_books_of_a_shop(serve: Start, tmp_path: Path) -> None:
    """Load a file, audit, explain and examine, beside the running server and after it."""
    served = serve()
    environment = {"BINCARD_URL": f"http://127.0.0.1:{served.port}"}
    (tmp_path / "places.jsonl").write_text('{"id": "s1", "kind": "store"}\n')
    (tmp_path / "stock.csv").write_text("sku,location,quantity\nA-1,s1,5\nA-2,s1,x\n")
    places = bincard("load", "locations", "places.jsonl", directory=tmp_path, environment=environment)
    assert (places.returncode, places.stdout) == (0, "locations: 1 of 1 lines loaded, 0 failed\n")
    stock = bincard("load", "stock", "stock.csv", directory=tmp_path, environment=environment)
    assert stock.returncode == 1
    assert "stock.csv:3 quantity: " in stock.stdout
    assert "stock: 1 of 2 lines loaded, 1 failed" in stock.stdout
    while_it_runs = bincard("audit", "--json", directory=tmp_path)
    assert while_it_runs.returncode == 0
    assert json.loads(while_it_runs.stdout)["positions"] == 1
    assert bincard("explain", "A-1", "s1", directory=tmp_path).stdout == "A-1 at s1: 5 = 5 on hand\n"
    unknown = bincard("explain", "A-9", directory=tmp_path)
    assert (unknown.returncode, unknown.stderr) == (1, "bincard: SKU A-9: no location stocks it\n")
    (tmp_path / "kits.jsonl").write_text(
        '{"sku": "K", "components": [{"sku": "A-1", "quantity": 2}, {"sku": "A-3", "quantity": 1}]}\n'
    )
    kits = bincard("load", "items", "kits.jsonl", directory=tmp_path, environment=environment)
    assert kits.returncode == 0, kits.stdout
    lines = ["K is a kit of 2 × A-1, 1 × A-3", "A-3: no location stocks it", "A-1 at s1: 5 = 5 on hand"]
    assert bincard("explain", "K", directory=tmp_path).stdout.splitlines() == lines
    assert served.stop() == 0
    afterwards = bincard("audit", directory=tmp_path)
    assert afterwards.returncode == 0
    assert afterwards.stdout.splitlines()[-1] == "clean: every count equals the replay of the ledger"
    examined = bincard("doctor", directory=tmp_path)
    assert examined.returncode == 0
    assert examined.stdout.splitlines()[-1] == "durability local holds"
    none = bincard("doctor", "--json", "--durability", "none", directory=tmp_path)
    assert json.loads(none.stdout)["is_ready"] is True


def test_an_audit_that_finds_something(serve: Start, tmp_path: Path) -> None:
    """A count that was changed behind the engine's back: status 1, and what and where."""
    served = serve()
    assert served.ask("PUT", "/v1/locations/s1", {"kind": "store"})[0] in {200, 201}
    fact = {"id": "m1", "kind": "receive", "sku": "A-1", "location": "s1", "quantity": 5}
    assert served.ask("POST", "/v1/stock/movements", {"movements": [fact]})[0] == 207
    with redis.Redis.from_url(served.running_server()["url"]) as connection:
        connection.hdel(keys.stock(0), "A-1")
    found = bincard("audit", directory=tmp_path)
    assert found.returncode == 1
    assert "difference in partition 0: card b'A-1'" in found.stdout
    assert "NOT CLEAN: differences 1, violations 0" in found.stdout
