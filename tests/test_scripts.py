"""scripts/ on a machine where things are missing, taken, slow or repeated; no network needed."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.topology.groups import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = ROOT / "scripts"

# Stands in for .venv/bin/bincard: `serve` answers readiness until told to stop, `demo` names what
# to try; the environment says how each misbehaves.
STAND_IN = """\
    #!{python}
    import http.server, json, os, signal, sys, threading
    if sys.argv[1] == "demo":
        print("loading")
        if os.environ.get("DEMO") != "broken":
            print(json.dumps({{"sku": "A/1 'b'", "location": "w1", "available": 3}}))
        sys.exit(0)
    if os.environ.get("SERVE") == "dies":
        sys.exit(7)
    print("args " + " ".join(sys.argv[1:]), flush=True)
    asked = [0]
    class Readiness(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked[0] += 1
            self.send_response(200 if asked[0] > 2 else 503)
            self.end_headers()
        def log_message(self, *_):
            pass
    server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[5])), Readiness)
    stops = []
    def stop(number, _frame):
        stops.append(number)
        threading.Thread(target=server.shutdown).start()
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    server.serve_forever()
    print("stopped by", *stops, flush=True)
    sys.exit(3)
"""


def load(name: str) -> ModuleType:
    """A fresh copy of a script as a module."""
    sys.path.insert(0, str(SCRIPTS))
    try:
        spec = importlib.util.spec_from_file_location(f"scripts_{name}", SCRIPTS / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    finally:
        sys.path.remove(str(SCRIPTS))


@pytest.fixture
def port() -> int:
    """A port nobody uses, and that the system gives to nobody meanwhile."""
    return free_ports(1)[0]


@pytest.fixture
def stand_in(tmp_path: Path) -> Path:
    """The pretended bincard program."""
    program = tmp_path / "bincard"
    program.write_text(textwrap.dedent(STAND_IN).format(python=sys.executable), encoding="utf-8")
    program.chmod(0o755)
    return program


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A root with a pyproject and a `.venv` that looks installed."""
    (tmp_path / "pyproject.toml").write_text("[project]\n", encoding="utf-8")
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    (programs / "bincard").write_text("", encoding="utf-8")
    return tmp_path


def stamp(clone: Path, bootstrap: ModuleType, *extras: str) -> None:
    """Record a finished installation."""
    found = {"fingerprint": bootstrap.fingerprint(root=clone), "extras": extras}
    (clone / ".venv" / bootstrap.STAMP_NAME).write_text(json.dumps(found), encoding="utf-8")


def start(stand_in: Path, port: int, *, demo: bool = True, **env: str) -> subprocess.Popen[str]:
    """run.py's serving half in a process of its own, with the pretended program."""
    code = (
        f"import sys; sys.path.insert(0, {str(SCRIPTS)!r})\n"
        "import run; from pathlib import Path\n"
        f"sys.exit(run.serve(bincard=Path({str(stand_in)!r}), port={port}, "
        f"data_dir=Path({str(stand_in.parent / 'stock')!r}), with_demo={demo}))"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | env,
    )


def lines_until(running: subprocess.Popen[str], start_of_line: str) -> Iterator[str]:
    """What the process prints, up to the first line that starts so."""
    assert running.stdout is not None
    for line in running.stdout:
        yield line.rstrip("\n")
        if line.startswith(start_of_line):
            return
    pytest.fail(f"it ended before it printed {start_of_line!r}: {ending(running)}")


def ending(running: subprocess.Popen[str]) -> tuple[str, str]:
    """The rest of what it prints, and all of its errors, once it ends by itself."""
    running.wait(timeout=20)
    assert running.stdout is not None
    assert running.stderr is not None
    return running.stdout.read(), running.stderr.read()


def test_an_installation_is_repeated_only_when_something_changed(clone: Path) -> None:
    """The second start installs nothing; a changed pyproject or one more extra does."""
    bootstrap = load("_bootstrap")
    assert bootstrap.installed_extras(root=clone) is None
    stamp(clone, bootstrap, "test")
    assert bootstrap.installed_extras(root=clone) == {"test"}
    assert bootstrap.ensure_venv(root=clone) == clone / ".venv" / "bin" / "python"
    assert bootstrap.ensure_venv(["test"], root=clone) == clone / ".venv" / "bin" / "python"
    (clone / "pyproject.toml").write_text("[project]\nname='x'\n", encoding="utf-8")
    assert bootstrap.installed_extras(root=clone) is None


def test_a_removed_program_means_not_installed(clone: Path) -> None:
    """A stamp alone proves nothing."""
    bootstrap = load("_bootstrap")
    stamp(clone, bootstrap)
    (clone / ".venv" / "bin" / "bincard").unlink()
    assert bootstrap.installed_extras(root=clone) is None


def test_a_torn_stamp_means_not_installed(clone: Path) -> None:
    """An installation that was interrupted is done again."""
    bootstrap = load("_bootstrap")
    (clone / ".venv" / bootstrap.STAMP_NAME).write_text('{"fing', encoding="utf-8")
    assert bootstrap.installed_extras(root=clone) is None


def test_without_pip_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pip, no ensurepip: plain words, no traceback."""
    bootstrap = load("_bootstrap")
    monkeypatch.setattr(bootstrap, "starts", lambda _command: False)
    monkeypatch.setattr(bootstrap, "host_python", lambda: "/opt/python3")
    with pytest.raises(bootstrap.MissingError, match=r"python3 has no pip.*python3-pip"):
        bootstrap.pip_command(Path("python"))


def test_ensurepip_stands_in_for_a_missing_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Python with ensurepip alone is enough."""
    bootstrap = load("_bootstrap")
    monkeypatch.setattr(bootstrap, "starts", lambda command: "ensurepip" in command)
    monkeypatch.setattr(bootstrap, "host_python", lambda: "/opt/python3")
    assert bootstrap.pip_command(Path("python")) == ["python", "-m", "pip"]


def test_a_failed_command_shows_its_last_words() -> None:
    """Quiet on success only."""
    bootstrap = load("_bootstrap")
    bootstrap.quietly([sys.executable, "-c", "print('noise')"], fault="unused")
    with pytest.raises(bootstrap.MissingError, match=r"it failed\n\nno such wheel"):
        bootstrap.quietly(
            [sys.executable, "-c", "print('no such wheel'); raise SystemExit(1)"],
            fault="it failed",
        )


def test_run_serves_loads_the_demo_and_stops_once(stand_in: Path, port: int) -> None:
    """Ready, demo loaded, a curl that is one valid shell line; one SIGTERM for one Ctrl-C."""
    with start(stand_in, port) as running:
        printed = list(lines_until(running, "curl"))
        arguments = shlex.split(printed[-1])
        assert f"args serve --host 127.0.0.1 --port {port}" in printed[0]
        assert f"http://127.0.0.1:{port}/v1/reservations" in arguments
        assert json.loads(arguments[-1]) == {"lines": [{"sku": "A/1 'b'", "quantity": 1, "location": "w1"}]}
        assert any(re.match(r"Idempotency-Key: first-\d+$", word) for word in arguments)
        running.send_signal(signal.SIGINT)
        rest, errors = ending(running)
    assert "/v1/availability/A%2F1%20%27b%27" in rest
    assert f"stopped by {signal.SIGTERM}\n" in rest
    assert errors == ""
    assert running.returncode == 3


def test_run_without_demo_prints_a_curl_too(stand_in: Path, port: int) -> None:
    """--no-demo leaves the shop empty and still shows something that works."""
    with start(stand_in, port, demo=False) as running:
        assert list(lines_until(running, "curl"))[-1] == f"curl -s http://127.0.0.1:{port}/readyz"
        running.terminate()
        ending(running)


def test_run_keeps_serving_when_the_demo_fails(stand_in: Path, port: int) -> None:
    """A broken demo is said plainly and takes nothing down."""
    with start(stand_in, port, DEMO="broken") as running:
        assert list(lines_until(running, "curl"))
        running.terminate()
        _rest, errors = ending(running)
    assert "demo data could not be loaded" in errors


def test_run_ends_with_the_status_of_a_server_that_dies(stand_in: Path, port: int) -> None:
    """A server that cannot start is not waited for."""
    with start(stand_in, port, SERVE="dies") as running:
        printed, _errors = ending(running)
    assert running.returncode == 7
    assert "curl" not in printed


@pytest.mark.skipif(sys.platform != "linux", reason="parent-death signals are Linux's")
def test_a_killed_run_leaves_no_server(stand_in: Path, port: int) -> None:
    """Killing the script outright frees the port and the data directory."""
    with start(stand_in, port) as running:
        assert list(lines_until(running, "curl"))
        running.kill()
        ending(running)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return
        time.sleep(0.02)
    pytest.fail("the server still listens")


def test_run_refuses_a_taken_port_before_it_installs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message names the port and the option."""
    run = load("run")
    monkeypatch.setattr(run, "ensure_venv", lambda: pytest.fail("it went on to install"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert run.main(["--port", str(port)]) == 1
    said = capsys.readouterr().err
    assert f"Port {port} is not free" in said
    assert "--port N" in said


def test_a_missing_tool_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who may not install packages learns which to ask for."""
    script = load("test")
    monkeypatch.setattr(script.shutil, "which", lambda _name: None)
    monkeypatch.setattr(script.os, "geteuid", lambda: 1000)
    with pytest.raises(script.MissingError, match="apt-get install redis-server lua-check"):
        script.ensure_tools()


def test_a_failed_check_fails_the_run_before_the_tests(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Lint cannot be overlooked behind a green summary; every check is still shown."""
    script = load("test")
    monkeypatch.setattr(script, "ensure_venv", lambda _extras: None)
    monkeypatch.setattr(script, "ensure_tools", lambda: None)
    monkeypatch.setattr(script, "pytest", lambda _arguments: pytest.fail("tests were run"))
    bad = [sys.executable, "-c", "print('line 3 is wrong'); raise SystemExit(1)"]
    good = [sys.executable, "-c", "print('noise')"]
    monkeypatch.setattr(script, "checks", lambda: iter([("first", bad), ("second", good)]))
    assert script.main([]) == 1
    said = capsys.readouterr()
    assert "line 3 is wrong" in said.out
    assert "noise" not in said.out
    assert re.search(r"second\s+ok", said.out)
    assert "failed: first; no test was run" in said.err


@pytest.mark.parametrize(("first", "second"), [(0, 0), (0, 3), (3, 0)])
def test_what_asserts_on_speed_runs_alone_and_first(
    monkeypatch: pytest.MonkeyPatch, first: int, second: int
) -> None:
    """The two runs leave nothing out, and a failure of either is one."""
    script = load("test")
    monkeypatch.setattr(script, "ensure_venv", lambda _extras: None)
    monkeypatch.setattr(script, "ensure_tools", lambda: None)
    monkeypatch.setattr(script, "checks", lambda: iter(()))
    runs: list[list[str]] = []

    def pytest_stand_in(arguments: list[str]) -> int:
        runs.append(arguments)
        return (first, second)[len(runs) - 1]

    monkeypatch.setattr(script, "pytest", pytest_stand_in)
    assert bool(script.main([])) == bool(first or second)
    (alone, others) = runs
    assert alone == ["-m", "load"]
    assert others[-2:] == ["-m", "not load"]
    assert "-n" in others


def test_arguments_go_to_pytest_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """`scripts/test.py -k x` starts no lint."""
    script = load("test")
    monkeypatch.setattr(script, "ensure_venv", lambda _extras: None)
    monkeypatch.setattr(script, "ensure_tools", lambda: None)
    monkeypatch.setattr(script, "checks", lambda: pytest.fail("lint was run"))
    monkeypatch.setattr(script, "pytest", lambda arguments: arguments)
    assert script.main(["-k", "x"]) == ["-k", "x"]


def test_services_are_kept_from_starting_only_while_installing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file that forbids services is gone afterwards; one that was there stays."""
    script = load("test")
    policy = tmp_path / "policy-rc.d"
    monkeypatch.setattr(script, "NO_SERVICES", policy)
    with script.no_started_services():
        assert subprocess.run([policy], check=False).returncode == 101
    assert not policy.exists()
    policy.write_text("theirs", encoding="utf-8")
    with script.no_started_services():
        pass
    assert policy.read_text(encoding="utf-8") == "theirs"


def test_ci_calls_the_same_command() -> None:
    """CI and a contributor run one and the same thing."""
    run = ROOT / ".ci" / "run"
    assert os.access(run, os.X_OK)
    assert "exec python3 scripts/test.py" in run.read_text(encoding="utf-8")


def test_every_mutant_that_nothing_kills_is_one() -> None:
    """What is listed as equivalent names lines as they are; a line that is another is to be tried anew."""
    mutate = load("mutate_lua")
    files = [
        path.relative_to(ROOT / mutate.LUA).with_suffix("") for path in (ROOT / mutate.LUA).rglob("*.lua")
    ]
    mutants = {mutant.name for file in files for mutant in mutate.mutants_of(file.as_posix())}
    assert not mutate.read_equivalent() - mutants
