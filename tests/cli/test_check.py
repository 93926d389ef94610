"""`bincard check`: exit statuses, and what it says to whom."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.check.shop import HistoryShop
from tests.cli.served import Start, until
from tests.cli.test_commands import bincard


def write(path: Path, *, is_broken: bool = False) -> Path:
    shop = HistoryShop()
    shop.open("s1")
    shop.receive("mug", 5)
    shop.reserve("a", 2)
    if is_broken:
        shop.ask_availability(change=lambda told: replace(told, available=9))
    path.write_bytes(shop.encode())
    return path


def test_a_clean_history(tmp_path: Path) -> None:
    """Status 0, the counts of what was looked at, and the verdict last."""
    write(tmp_path / "shop.jsonl")
    done = bincard("check", "shop.jsonl", directory=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[-1] == "clean: no answer breaks a promise"
    assert re.match(r"checked: 3 operations of 1 processes, 0 of unknown outcome, in 0\.\d s", lines[-2])
    assert "           1  promises judged" in lines
    told = json.loads(bincard("check", "--json", "shop.jsonl", directory=tmp_path).stdout)
    assert (told["is_clean"], told["operations"], told["violations"]) == (True, 3, [])


def test_a_broken_promise(tmp_path: Path) -> None:
    """Status 1; the invariant, what is wrong, and the lines that show it."""
    write(tmp_path / "shop.jsonl", is_broken=True)
    done = bincard("check", "shop.jsonl", directory=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    first, asked, answered, *_, verdict = done.stdout.splitlines()
    assert first == "violation I4 (counts add up): mug: 9 in all, but 3 by location"
    assert asked == '    shop.jsonl:8 availability {"sku":"mug"}'
    assert answered.startswith('    shop.jsonl:9 ok {"sku":"mug","available":9,')
    assert verdict == "NOT CLEAN: violations 1"
    told = json.loads(bincard("check", "--json", "shop.jsonl", directory=tmp_path).stdout)
    assert told["is_clean"] is False
    assert [violation["invariant"] for violation in told["violations"]] == ["I4"]
    assert told["violations"][0]["operations"][0] == 'shop.jsonl:8 availability {"sku":"mug"}'


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("gone.jsonl", None, "gone.jsonl: there is no such history"),
        ("empty.jsonl", b"", "empty.jsonl: no history begins here"),
        ("other.jsonl", b'{"a": 1}\n', "other.jsonl: no history begins here"),
        ("later.jsonl", "format", "later.jsonl: a history of format 2, this release reads format 1"),
        ("torn.jsonl", "garbage", "torn.jsonl:2: JSON is malformed"),
        ("full.jsonl", "full", "full.jsonl:2: the history breaks off here, the disk was full"),
        ("clock.jsonl", "clock", "recorded by different clocks"),
        ("shop.jsonl", "dataset", "tell of different data sets"),
    ],
)
def test_what_cannot_be_judged(tmp_path: Path, name: str, content: bytes | str | None, words: str) -> None:
    """Status 2 and one line that says why."""
    good = write(tmp_path / "good.jsonl").read_bytes()
    changes: dict[str, tuple[bytes, bytes]] = {
        "format": (b'"history":1', b'"history":2'),
        "garbage": (b'}\n{"time"', b"}\n{{{time"),
        "full": (b'}\n{"time"', b'}\n{"outcome":"broken_off"}\n{"time"'),
        "clock": (b'"clock":"one"', b'"clock":"two"'),
        "dataset": (b'"dataset":"one"', b'"dataset":"two"'),
    }
    if isinstance(content, str):
        content = good.replace(*changes[content], 1)
    if content is not None:
        (tmp_path / name).write_bytes(content)
    done = bincard("check", "good.jsonl", name, directory=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("bincard: ")
    assert words in line


def test_a_history_of_nothing(tmp_path: Path) -> None:
    """No operation is no success."""
    path = write(tmp_path / "shop.jsonl")
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
    done = bincard("check", "shop.jsonl", directory=tmp_path)
    assert done.returncode == 2
    assert done.stdout.splitlines()[-1] == "NOTHING TO CHECK: no operation was recorded"


def test_half_a_line_at_the_end(tmp_path: Path) -> None:
    """A killed process leaves half a line and zeros: that operation never began."""
    path = write(tmp_path / "shop.jsonl")
    path.write_bytes(path.read_bytes() + b'{"time":9,"number":' + bytes(5000))
    assert bincard("check", "shop.jsonl", directory=tmp_path).returncode == 0


def test_a_served_shop(serve: Start, tmp_path: Path) -> None:
    """All processes of `bincard serve` record, and the name that was given finds all their files."""
    served = serve("--workers", "2", environment={"BINCARD_HISTORY": str(tmp_path / "shop.jsonl")})
    assert served.ask("PUT", "/v1/locations/s1", {"kind": "store"})[0] in {200, 201}
    fact = {"id": "m1", "kind": "receive", "sku": "A-1", "location": "s1", "quantity": 5}
    assert served.ask("POST", "/v1/stock/movements", {"movements": [fact]})[0] == 207
    assert served.ask("GET", "/v1/availability/A-1")[0] == 200
    # Ready means that one of the API's workers is; the other may still be on its way.
    until(lambda: len(list(tmp_path.glob("shop.*.jsonl"))) == 4, "a file for each process")
    assert served.stop() == 0
    assert not (tmp_path / "shop.jsonl").exists()
    done = bincard("check", "shop.jsonl", directory=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "           1  availability answers judged" in done.stdout
    assert "not judged" not in done.stdout
