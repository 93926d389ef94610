from __future__ import annotations

import random
from pathlib import Path

import pytest

from engine.topology import aof
from engine.topology.embedded import AppendOnlyFileError

INCREMENT = "appendonly.aof.1.incr.aof"


def command(*words: bytes) -> bytes:
    """One command as the file holds it."""
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words)


def transaction(number: int, value: bytes = b"v") -> bytes:
    """What a script with two writes leaves."""
    key = b"%d" % number
    return (
        command(b"MULTI")
        + command(b"SET", b"a" + key, value)
        + command(b"HSET", b"b", key, value)
        + command(b"EXEC")
    )


SELECT = command(b"SELECT", b"0")


def write_files(data_dir: Path, *increments: bytes, base: bytes = b"REDIS0010") -> Path:
    """A server's directory with a base, incremental files and their manifest."""
    directory = data_dir / aof.DIRECTORY
    directory.mkdir()
    (directory / "appendonly.aof.1.base.rdb").write_bytes(base)
    lines = ["file appendonly.aof.1.base.rdb seq 1 type b"]
    for number, content in enumerate(increments, 1):
        name = f"appendonly.aof.{number}.incr.aof"
        (directory / name).write_bytes(content)
        lines.append(f"file {name} seq {number} type i")
    (directory / aof.MANIFEST).write_text("\n".join(lines) + "\n")
    return directory


def test_a_fresh_directory_needs_no_guard(tmp_path: Path) -> None:
    """The first start of all."""
    assert aof.guard_append_only_files(tmp_path) == []


def test_whole_files_are_left_alone(tmp_path: Path) -> None:
    """Also with values that hold line ends, zeros and what looks like commands."""
    odd = b"".join(
        transaction(n, value)
        for n, value in enumerate([b"", b"\r\n", b"\r\n\r\nx", b"\0\0", transaction(9), b"EXEC"])
    )
    content = SELECT + b"#TS:1700000000\r\n" + odd + command(b"SET", b"k", b"EXEC")
    directory = write_files(tmp_path, content)
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    assert aof.guard_append_only_files(tmp_path) == []
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == before


@pytest.mark.parametrize("window_bytes", [7, 64, aof.WINDOW_BYTES])
def test_every_tear_is_cut_to_the_last_whole_transaction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, window_bytes: int
) -> None:
    """At every offset of a file, whatever part of it is read at a time."""
    monkeypatch.setattr(aof, "WINDOW_BYTES", window_bytes)
    parts = [
        SELECT,
        transaction(1, b"a\r\nb"),
        b"#TS:1700000000\r\n",
        command(b"SET", b"k", b"x" * 70),
        transaction(2),
    ]
    whole_ends = [sum(map(len, parts[:n])) for n in range(len(parts) + 1)]
    content = b"".join(parts)
    file = tmp_path / "file"
    for offset in range(len(content) + 1):
        expected = max(end for end in whole_ends if end <= offset)
        file.write_bytes(content[:offset])
        assert aof.scan_append_only_file(file) == aof.Scan(offset, expected)
        file.write_bytes(content[:offset] + b"\0" * 100)
        assert aof.scan_append_only_file(file).whole_bytes == expected


def test_what_is_cut_is_kept_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Each cut keeps a copy of its own, and says so."""
    whole, torn = SELECT + transaction(1), transaction(2)[:-3]
    directory = write_files(tmp_path, whole + torn)
    increment = directory / INCREMENT
    for number in (1, 2):
        caplog.clear()
        increment.write_bytes(whole + torn)
        (cut,) = aof.guard_append_only_files(tmp_path)
        assert cut.copy == directory / f"{INCREMENT}.torn-{number}"
        assert cut.copy.read_bytes() == torn
        assert increment.read_bytes() == whole
        assert f"cut {len(torn)} torn bytes" in caplog.text
        assert aof.guard_append_only_files(tmp_path) == []


@pytest.mark.parametrize(
    ("content", "why"),
    [
        pytest.param(b"*1\r\n$5\r\nMULTI\r\n" + transaction(1), "MULTI out of place", id="nested"),
        pytest.param(SELECT + command(b"EXEC"), "EXEC out of place", id="lone-exec"),
        pytest.param(SELECT + b"garbage\r\n" + SELECT, "expected a command", id="garbage"),
        pytest.param(SELECT + b"garbage", "expected a command", id="garbage-at-the-end"),
        pytest.param(SELECT + b"\0" * 50 + SELECT, "expected a command", id="hole"),
        pytest.param(b"*1\r\n$-1\r\n" + SELECT, "expected a command", id="negative-length"),
        pytest.param(b"*0\r\n" + SELECT, "expected a command", id="no-words"),
        pytest.param(b"*1\r\n$3\r\nabcd\r\n" + SELECT, "longer than its length", id="too-long"),
        pytest.param(b"*2\r\n$3\r\nGET\r\n*2\r\n", "expected a command", id="word-missing"),
        pytest.param(
            SELECT + transaction(1).replace(b"$3\r\nSET", b"$993\r\nSET") + transaction(2),
            "over whole commands",
            id="length-swallows-the-rest",
        ),
    ],
)
def test_damage_is_refused_and_nothing_is_changed(tmp_path: Path, content: bytes, why: str) -> None:
    """No crash explains these; a repair would hide the loss."""
    directory = write_files(tmp_path, content)
    with pytest.raises(AppendOnlyFileError, match=why):
        aof.guard_append_only_files(tmp_path)
    assert (directory / INCREMENT).read_bytes() == content
    assert not list(directory.glob("*.torn-*"))


def test_no_changed_byte_loses_an_earlier_transaction(tmp_path: Path) -> None:
    """One changed byte is refused, or changes a value, or costs the last transaction at most."""
    parts = [SELECT, *(transaction(n) for n in range(6))]
    content = b"".join(parts)
    last = len(content) - len(parts[-1])
    file = tmp_path / "file"
    dice = random.Random(7)
    refused = 0
    for offset in range(last):
        changed = bytearray(content)
        changed[offset] ^= dice.randrange(1, 256)
        file.write_bytes(changed)
        try:
            assert aof.scan_append_only_file(file).whole_bytes >= last, (offset, bytes(changed))
        except AppendOnlyFileError:
            refused += 1
    assert refused > last / 2


def test_a_tear_before_a_later_file(tmp_path: Path) -> None:
    """During a rewrite there are two files: only the end of all that was written may be torn."""
    torn = SELECT + transaction(1)[:-1]
    directory = write_files(tmp_path, torn, SELECT)
    with pytest.raises(AppendOnlyFileError, match="goes on after it"):
        aof.guard_append_only_files(tmp_path)
    (directory / "appendonly.aof.2.incr.aof").write_bytes(SELECT[:3])
    assert [cut.whole_bytes for cut in aof.guard_append_only_files(tmp_path)] == [len(SELECT), 0]


def test_lost_files_are_refused(tmp_path: Path) -> None:
    """A server would start empty without a word when the manifest is gone."""
    directory = write_files(tmp_path, SELECT)
    manifest = directory / aof.MANIFEST
    kept = manifest.read_bytes()
    manifest.unlink()
    with pytest.raises(AppendOnlyFileError, match=r"appendonly\.aof\.manifest is missing"):
        aof.guard_append_only_files(tmp_path)
    (directory / INCREMENT).write_bytes(b"")
    assert aof.guard_append_only_files(tmp_path) == []  # killed during its very first start
    (directory / INCREMENT).unlink()
    manifest.write_bytes(kept)
    with pytest.raises(AppendOnlyFileError, match="which is missing"):
        aof.guard_append_only_files(tmp_path)
    manifest.write_bytes(b"file ../x seq 1 type i\n")
    with pytest.raises(AppendOnlyFileError, match="not understood"):
        aof.guard_append_only_files(tmp_path)


def test_a_base_of_commands_must_be_whole(tmp_path: Path) -> None:
    """A base is written whole before the manifest names it."""
    directory = write_files(tmp_path, SELECT, base=SELECT + transaction(1))
    assert aof.guard_append_only_files(tmp_path) == []
    (directory / "appendonly.aof.1.base.rdb").write_bytes(SELECT[:-1])
    with pytest.raises(AppendOnlyFileError, match="cut short"):
        aof.guard_append_only_files(tmp_path)
