"""What every benchmark shares: CPU and memory of a process, paired ratios, and the result file.

Times of a busy machine say little, so most figures are ratios: subject and yardstick alternate in one
run on one server, each pair gives a ratio, and the median of at least five counts.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

import msgspec
from msgspec import Struct, field

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
FORMAT = 1
DEFAULT_PAIRS = 5
SEED = 8451
PACKAGES = ("bincard", "fastapi", "hiredis", "httptools", "msgspec", "redis", "uvicorn", "uvloop")


Labels = Mapping[str, str | int | float]
"""What varied, and how much of it."""


class BenchmarkError(Exception):
    """A benchmark that cannot run or does not count; the text is for a person."""


# -------------------------------------------------------------------- the form of a result


class Machine(Struct, frozen=True, kw_only=True):
    """Where it ran."""

    cores: int
    cpu: str
    memory_bytes: int
    system: str
    python: str


class Figure(Struct, frozen=True, kw_only=True):
    """One number with what it was made of. `labels` tell what varied, for the plots."""

    name: str
    value: float
    unit: str
    series: Sequence[float] = ()
    """The single repetitions; of a ratio, one a pair."""
    subject: Sequence[float] = ()
    yardstick: Sequence[float] = ()
    """Both sides of a ratio in `side_unit`."""
    side_unit: str = ""
    target: float | None = None
    better: str = "lower"
    labels: Labels = field(default_factory=dict)

    @property
    def is_met(self) -> bool | None:
        """Whether the target is reached; None where there is none."""
        if self.target is None:
            return None
        return self.value <= self.target if self.better == "lower" else self.value >= self.target


class Proof(Struct, frozen=True, kw_only=True):
    """That no unit was promised twice while the numbers were made."""

    holds: bool
    positions: int
    answers: int
    detail: str


class Result(Struct, frozen=True, kw_only=True):
    """A result file."""

    format: int = FORMAT
    benchmark: str
    date: str
    commit: str
    machine: Machine
    versions: Mapping[str, str]
    workload: Labels
    seed: int
    figures: Sequence[Figure]
    proofs: Sequence[Proof]
    does_not_show: str
    raw: Mapping[str, object] = field(default_factory=dict)


def find_figure(result: Result, name: str) -> Figure:
    """A figure by its name. Raises `BenchmarkError`."""
    for figure in result.figures:
        if figure.name == name:
            return figure
    raise BenchmarkError(f"{result.benchmark} has no figure {name!r}")


def read_result(path: Path) -> Result:
    """A result file. Raises `BenchmarkError` where it is none."""
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Result)
    except (OSError, msgspec.DecodeError) as fault:
        raise BenchmarkError(f"{path} is no result file: {fault}") from fault
    if found.format != FORMAT:
        raise BenchmarkError(f"{path} has format {found.format}, this release reads {FORMAT}")
    return found


def write_result(result: Result, path: Path) -> None:
    """Writes a result file. Raises `BenchmarkError` for a run whose proof is missing or does not hold."""
    if not result.proofs or not all(proof.holds for proof in result.proofs):
        raise BenchmarkError("a run without a proof of no oversell does not count; nothing is written")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")


def make_result(
    benchmark: str,
    figures: Sequence[Figure],
    proofs: Sequence[Proof],
    *,
    server: str,
    workload: Labels,
    does_not_show: str,
    raw: Mapping[str, object] | None = None,
) -> Result:
    """A result of now and here. `server` names the store's program and version."""
    return Result(
        benchmark=benchmark,
        date=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        commit=describe_commit(),
        machine=describe_machine(),
        versions={"server": server, **package_versions()},
        workload=workload,
        seed=SEED,
        figures=figures,
        proofs=proofs,
        does_not_show=does_not_show,
        raw=raw or {},
    )


# -------------------------------------------------------------------- where it runs


def describe_machine() -> Machine:
    """This machine, without its name."""
    cpu = platform.processor() or platform.machine()
    memory = 0
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("model name"):
                cpu = line.partition(":")[2].strip()
                break
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Machine(
        cores=os.cpu_count() or 1,
        cpu=cpu,
        memory_bytes=memory,
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
    )


def describe_commit() -> str:
    """The commit of the checkout; `+` after it tells of changes that are in no commit."""
    try:
        commit = _git("rev-parse", "--short=12", "HEAD")
        changed = _git(
            "status", "--porcelain", "--untracked-files=no", "--", "engine", "api", "benchmarks/*.py"
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit + ("+" if changed else "")


def _git(*words: str) -> str:
    done = subprocess.run(  # noqa: S603 - fixed words
        ["git", *words],  # noqa: S607 - whichever git the user has
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def package_versions() -> dict[str, str]:
    """The versions of what takes part."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


# -------------------------------------------------------------------- a process


def cpu_seconds(pid: int) -> float:
    """CPU time that all threads of a process have used, to the nanosecond. Linux only."""
    total = 0
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += int((task / "schedstat").read_bytes().split()[0])
    except OSError as fault:
        raise BenchmarkError(f"the CPU time of process {pid} cannot be read (Linux only): {fault}") from fault
    return total / 1e9


def resident_bytes(pid: int) -> int:
    """The memory of a process that is in RAM. Linux only."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_bytes().split()[1])
    except OSError as fault:
        raise BenchmarkError(f"the memory of process {pid} cannot be read (Linux only): {fault}") from fault
    return pages * os.sysconf("SC_PAGE_SIZE")


def children_of(pid: int) -> dict[int, str]:
    """The child processes of a process and their command lines. Linux only."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text(encoding="ascii").split():
            command = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ")
            found[int(child)] = command.decode(errors="replace")
    return found


# -------------------------------------------------------------------- repetitions


class Pairs(Struct, frozen=True):
    """Both sides of alternating measurements."""

    subject: Sequence[float]
    yardstick: Sequence[float]

    @property
    def ratios(self) -> list[float]:
        """One a pair."""
        return [mine / theirs for mine, theirs in zip(self.subject, self.yardstick, strict=True)]

    @property
    def ratio(self) -> float:
        """The median of the pairs' ratios."""
        return median(self.ratios)

    def figure(
        self,
        name: str,
        *,
        side_unit: str,
        target: float | None = None,
        better: str = "lower",
        labels: Labels | None = None,
    ) -> Figure:
        """These pairs as a ratio of a result."""
        return Figure(
            name=name,
            value=rounded(self.ratio),
            unit="ratio",
            series=[rounded(ratio) for ratio in self.ratios],
            subject=[rounded(value) for value in self.subject],
            yardstick=[rounded(value) for value in self.yardstick],
            side_unit=side_unit,
            target=target,
            better=better,
            labels=labels or {},
        )


def paired(subject: Callable[[], float], yardstick: Callable[[], float], pairs: int = DEFAULT_PAIRS) -> Pairs:
    """Measures both sides in turns; the side that goes first changes with every pair, so that a machine
    that grows slower or faster favours neither.
    """
    mine, theirs = [], []
    for turn in range(pairs):
        for side in (0, 1) if turn % 2 else (1, 0):
            if side:
                mine.append(subject())
            else:
                theirs.append(yardstick())
    return Pairs(mine, theirs)


def figure_of(
    name: str,
    series: Sequence[float],
    unit: str,
    *,
    target: float | None = None,
    better: str = "lower",
    labels: Labels | None = None,
) -> Figure:
    """The median of repetitions as a figure."""
    return Figure(
        name=name,
        value=rounded(median(series)),
        unit=unit,
        series=[rounded(value) for value in series],
        target=target,
        better=better,
        labels=labels or {},
    )


def rounded(value: float) -> float:
    """Four significant digits: more would only pretend."""
    return float(f"{value:.4g}")


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of all does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -int(-share * len(ordered) // 1) - 1))]


# -------------------------------------------------------------------- the command line


def parser_of(benchmark: str, description: str) -> argparse.ArgumentParser:
    """The options that all benchmarks have."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{benchmark}", description=description)
    parser.add_argument(
        "--out",
        type=Path,
        help=f"where to write the result (default: benchmarks/results/{benchmark}.json; --quick: nowhere)",
    )
    parser.add_argument("--quick", action="store_true", help="a tiny run, to see that it works")
    parser.add_argument(
        "--pairs", type=int, default=DEFAULT_PAIRS, help="repetitions of each side (default: %(default)s)"
    )
    parser.add_argument(
        "--server",
        help="the store's program: valkey, redis, or a path (default: what `bincard serve` would take)",
    )
    return parser


def finish(result: Result, options: argparse.Namespace) -> None:
    """Prints the figures and writes the result file that the options ask for."""
    width = max((len(figure.name) for figure in result.figures), default=0)
    for figure in result.figures:
        verdict = {None: "", True: "  met", False: "  MISSED"}[figure.is_met]
        bound = "" if figure.target is None else f"  target {'≤' if figure.better == 'lower' else '≥'} "
        bound += "" if figure.target is None else f"{figure.target:g}"
        print(f"{figure.name:<{width}}  {figure.value:>10,.4g} {figure.unit}{bound}{verdict}")
    for proof in result.proofs:
        print(f"proof of no oversell {'holds' if proof.holds else 'DOES NOT HOLD'}: {proof.detail}")
    if not all(proof.holds for proof in result.proofs):
        raise BenchmarkError("units were promised twice: this run does not count")
    path = options.out or (None if options.quick else RESULTS / f"{result.benchmark}.json")
    if path is not None:
        write_result(result, path)
        print(f"written: {path}")


def run(main: Callable[[Sequence[str]], None]) -> int:
    """Runs a benchmark; what keeps it from counting is one line and status 1."""
    try:
        main(sys.argv[1:])
    except BenchmarkError as fault:
        print(f"benchmark: {fault}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0
