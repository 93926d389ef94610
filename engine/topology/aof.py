"""Guards the append-only files: cuts off what a crash tore, refuses what is damaged.

A script's effects are one `MULTI … EXEC` in the file. When the end of the file is torn inside it,
Redis 7.0 (with `aof-load-truncated yes`) keeps the whole commands before the tear, and with them
a `MULTI` without its `EXEC`; whatever is appended afterwards completes it, and at the *second*
restart half a script comes to life. So the servers run with `aof-load-truncated no`, and this
module cuts the file back to the end of the last whole transaction before they see it.

Only what a crash can explain is cut: a last command that is a true prefix of a command, a last
`MULTI` without `EXEC`, and zero bytes after the end (a file system that had grown the file but not
written it). Anything else is refused, never repaired. There are no checksums in these files: a
changed byte inside a value cannot be seen here, nor by the server.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final

from .embedded_errors import AppendOnlyFileError

if TYPE_CHECKING:
    from pathlib import Path

LOG: Final = logging.getLogger("bincard")

DIRECTORY: Final = "appendonlydir"
MANIFEST: Final = "appendonly.aof.manifest"
MANIFEST_LINE: Final = re.compile(r'file "?([^"/\s]+)"? seq \d+ type ([bih])(?: .*)?')

COUNT: Final = re.compile(rb"\*[1-9]\d{0,6}")
LENGTH: Final = re.compile(rb"\$(?:0|[1-9]\d{0,9})")
HEAD_BYTES: Final = 16
# `*1`, `$5`, `MULTI`
LINES_OF_ONE_WORD: Final = 3
# A command inside what should be the value of a torn one: then a length was damaged, and cutting
# there would throw away whole transactions.
COMMAND_WITHIN: Final = re.compile(rb"\r\n\*[1-9]\d{0,6}\r\n\$\d{1,10}\r\n")
WINDOW_BYTES: Final = 1 << 20
HEADS_REMEMBERED: Final = 4096
# What the first start of a server leaves behind when it is killed before it wrote the manifest.
EMPTY_BASE_BYTES: Final = 1024


@dataclass(frozen=True, slots=True)
class Scan:
    """What one file holds: `whole_bytes` end with the last whole transaction of `size_bytes`."""

    size_bytes: int
    whole_bytes: int

    @property
    def torn_bytes(self) -> int:
        """What a crash left of a transaction that was never whole."""
        return self.size_bytes - self.whole_bytes


@dataclass(frozen=True, slots=True)
class Cut:
    """A torn end that was cut off and kept in `copy`."""

    path: Path
    whole_bytes: int
    torn_bytes: int
    copy: Path


class _UnexpectedError(Exception):
    """Not a whole command here; `_check_begun` tells whether it is one that began well."""


class _MalformedError(Exception):
    def __init__(self, offset: int, why: str) -> None:
        super().__init__(why)
        self.offset = offset


def guard_append_only_files(data_dir: Path) -> list[Cut]:
    """Make the files of `data_dir` end with a whole transaction; return what was cut.

    Costs one pass over the incremental files. Nothing may be writing to them. Raises
    `AppendOnlyFileError` and changes nothing when they are damaged elsewhere than at the end.
    """
    base, increments = _read_manifest(data_dir / DIRECTORY)
    if base is not None:
        _check_base(base)
    scans = [(path, scan_append_only_file(path)) for path in increments]
    for index, (path, scan) in enumerate(scans):
        later = [name for name, following in scans[index + 1 :] if following.whole_bytes]
        if scan.torn_bytes and later:
            msg = (
                f"{path} ends in the middle of a transaction at offset {scan.whole_bytes}, yet "
                f"{later[0].name} goes on after it. {_remedy(path)}"
            )
            raise AppendOnlyFileError(msg)
    return [_cut(path, scan) for path, scan in scans if scan.torn_bytes]


def scan_append_only_file(path: Path) -> Scan:
    """Find the end of the last whole transaction; raises `AppendOnlyFileError` on damage."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        end = _without_trailing_zeros(file, size)
        try:
            whole = _Scanner(file, end).whole_bytes()
        except _MalformedError as damage:
            msg = f"{path} is damaged at offset {damage.offset}: {damage}. {_remedy(path)}"
            raise AppendOnlyFileError(msg) from None
    return Scan(size_bytes=size, whole_bytes=whole)


class _Heads(dict[bytes, int]):
    """Numbers by their line, `$12` → 12: one look-up in place of a strict parse of digits."""

    def __init__(self, form: re.Pattern[bytes]) -> None:
        super().__init__()
        self._form = form

    def __missing__(self, line: bytes) -> int:
        if line.startswith(b"#") and self._form is COUNT:
            return 0  # an annotation such as #TS:1700000000, alone on its line
        if not self._form.fullmatch(line):
            raise _UnexpectedError
        number = int(line[1:])
        if len(self) < HEADS_REMEMBERED:
            self[line] = number
        return number


class _Scanner:
    """One pass over a file, a window at a time."""

    def __init__(self, file: BinaryIO, end: int) -> None:
        self._file = file
        self._end = end
        self._counts = _Heads(COUNT)
        self._lengths = _Heads(LENGTH)
        self._open_multi = False

    def whole_bytes(self) -> int:
        """Offset of the end of the last whole transaction."""
        start = whole = 0
        window_bytes = WINDOW_BYTES
        while start < self._end:
            self._file.seek(start)
            window = self._file.read(min(window_bytes, self._end - start))
            walked, whole_in_window = self._walk(window, start)
            if whole_in_window >= 0:
                whole = start + whole_in_window
            last = start + len(window) >= self._end
            start += walked
            rest = window[walked:]
            _check_begun(rest, start)
            if last:
                if COMMAND_WITHIN.search(rest):
                    why = "a length that reaches beyond the end of the file, over whole commands"
                    raise _MalformedError(start, why)
                return whole
            # Nothing walked: a command larger than the window.
            window_bytes = WINDOW_BYTES if walked else window_bytes * 2
        return whole

    def _walk(self, window: bytes, start: int) -> tuple[int, int]:
        """Walk over whole commands, stopping at the first that is not.

        Returns the bytes walked and those up to the end of the last whole transaction, -1 when no
        transaction ends in this window. Splitting once and comparing lengths is what makes it fast.
        """
        lines = window.split(b"\r\n")
        unfinished = len(lines.pop())
        counts, lengths = self._counts, self._lengths
        at, whole, open_multi = 0, -1, self._open_multi
        with contextlib.suppress(IndexError, _UnexpectedError):
            while True:
                after = at + 1
                for _ in range(counts[lines[at]]):
                    missing = lengths[lines[after]] - len(lines[after + 1])
                    after += 2
                    while missing > 0:  # the value holds line ends itself
                        missing -= 2 + len(lines[after])
                        after += 1
                    if missing:
                        raise _UnexpectedError
                if after - at == LINES_OF_ONE_WORD:
                    word = lines[at + 2].upper()
                    if word in {b"MULTI", b"EXEC"}:
                        if open_multi is (word == b"MULTI"):
                            offset = start + len(window) - unfinished - _bytes_of(lines[at:])
                            raise _MalformedError(offset, f"{word.decode()} out of place")
                        open_multi = not open_multi
                at = after
                if not open_multi:
                    whole = at
        self._open_multi = open_multi
        finished = len(window) - unfinished
        return (
            finished - _bytes_of(lines[at:]),
            finished - _bytes_of(lines[whole:]) if whole >= 0 else -1,
        )


def _bytes_of(lines: list[bytes]) -> int:
    return sum(map(len, lines)) + 2 * len(lines)


def _check_begun(rest: bytes, offset: int) -> None:
    """Check that `rest` is the beginning of a command that ends outside it; raise otherwise."""
    if rest.startswith(b"#"):
        return
    arguments, position = _begun_head(rest, 0, offset, COUNT)
    while position >= 0 and arguments:
        length, position = _begun_head(rest, position, offset, LENGTH)
        if position < 0:
            return
        position += length
        ending = rest[position : position + 2]
        if not b"\r\n".startswith(ending):
            raise _MalformedError(offset + position, "an argument longer than its length says")
        if len(ending) < len(b"\r\n"):
            return
        position += 2
        arguments -= 1
    if position >= 0:
        raise _MalformedError(offset, "a command that is not understood")


def _begun_head(rest: bytes, start: int, offset: int, form: re.Pattern[bytes]) -> tuple[int, int]:
    """Return the number of the line at `start` and the offset after it, -1 when it is cut short."""
    line_end = rest.find(b"\r\n", start, start + HEAD_BYTES)
    line = rest[start:line_end] if line_end >= 0 else rest[start:]
    if line_end >= 0 and form.fullmatch(line):
        return int(line[1:]), line_end + 2
    if line_end < 0 and (not line or form.fullmatch(line.removesuffix(b"\r"))):
        return 0, -1
    if line_end < 0 and line in {b"*", b"$"} and form.pattern[1:2] == line:
        return 0, -1
    raise _MalformedError(offset + start, f"expected a command, found {line[:HEAD_BYTES]!r}")


def _read_manifest(directory: Path) -> tuple[Path | None, list[Path]]:
    """Return the base file and the incremental files in the order they are replayed."""
    manifest = directory / MANIFEST
    if not manifest.exists():
        _refuse_files_without_manifest(directory)
        return None, []
    base: Path | None = None
    increments: list[Path] = []
    for line in manifest.read_text(errors="replace").splitlines():
        if not line or line.startswith("#"):
            continue
        entry = MANIFEST_LINE.fullmatch(line.strip())
        if entry is None:
            msg = f"{manifest} has a line that is not understood: {line!r}. {_remedy(manifest)}"
            raise AppendOnlyFileError(msg)
        path = directory / entry[1]
        if entry[2] != "h" and not path.is_file():
            msg = f"{manifest} names {path.name}, which is missing. {_remedy(manifest)}"
            raise AppendOnlyFileError(msg)
        if entry[2] == "b":
            base = path
        elif entry[2] == "i":
            increments.append(path)
    return base, increments


def _refuse_files_without_manifest(directory: Path) -> None:
    """Refuse a lost manifest: the server would ignore the files and start empty."""
    for path in sorted(directory.glob("appendonly.aof.*")):
        spare = EMPTY_BASE_BYTES if ".base." in path.name else 0
        if path.suffix in {".aof", ".rdb"} and path.stat().st_size > spare:
            msg = f"{path} holds data, but {MANIFEST} is missing beside it. {_remedy(path)}"
            raise AppendOnlyFileError(msg)


def _check_base(path: Path) -> None:
    """Check a base of commands; a snapshot has a checksum, which the server checks."""
    with path.open("rb") as file:
        if file.read(6).startswith((b"REDIS", b"VALKEY")):
            return
    if scan_append_only_file(path).torn_bytes:
        msg = f"{path} is cut short; it is written whole or not at all. {_remedy(path)}"
        raise AppendOnlyFileError(msg)


def _without_trailing_zeros(file: BinaryIO, size: int) -> int:
    end = size
    while end:
        start = max(0, end - WINDOW_BYTES)
        file.seek(start)
        kept = len(file.read(end - start).rstrip(b"\0"))
        if kept:
            return start + kept
        end = start
    return 0


def _cut(path: Path, scan: Scan) -> Cut:
    number = 1
    while (copy := path.with_name(f"{path.name}.torn-{number}")).exists():
        number += 1
    with path.open("r+b") as file:
        file.seek(scan.whole_bytes)
        with copy.open("xb") as kept:
            copy.chmod(0o600)
            while block := file.read(WINDOW_BYTES):
                kept.write(block)
            kept.flush()
            os.fsync(kept.fileno())
        # The copy must be on disk under its name before the original loses the bytes.
        sync_directory(path.parent)
        file.truncate(scan.whole_bytes)
        os.fsync(file.fileno())
    LOG.warning(
        "cut %d torn bytes off %s at offset %d (a write that was never confirmed); kept in %s",
        scan.torn_bytes,
        path,
        scan.whole_bytes,
        copy.name,
    )
    return Cut(path=path, whole_bytes=scan.whole_bytes, torn_bytes=scan.torn_bytes, copy=copy)


def sync_directory(directory: Path) -> None:
    """Make names created, replaced or removed in `directory` survive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remedy(path: Path) -> str:
    return (
        "Nothing was changed. A crash does not explain this: keep a copy of "
        f"{path.parent}, look at the disk, and restore a backup or fail over to a replica."
    )
