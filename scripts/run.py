#!/usr/bin/env python3
"""From a fresh clone to a running Bincard with demo stock; needs Python 3.11 with pip.

Installs into `.venv`, starts `bincard serve` with an embedded server, loads the demo data, prints
where everything is and a first `curl`. Ctrl-C or SIGTERM stops it cleanly; the exit status is the
server's.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

from _bootstrap import ROOT, MissingError, ensure_venv, environment, say, venv_program

if TYPE_CHECKING:
    from types import FrameType

READY_WITHIN_SECONDS = 60.0
HIGHEST_PORT = 65535
PR_SET_PDEATHSIG = 1
NO_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def main(arguments: list[str] | None = None) -> int:
    """Parse the options, install, serve; returns the exit status."""
    parser = argparse.ArgumentParser(description="Start Bincard with demo data.")
    parser.add_argument("--port", type=port_number, default=8080, help="default: %(default)s")
    parser.add_argument(
        "--data-dir",
        type=Path,
        default=ROOT / "data",
        help="where the stock is kept, also after a restart; default: data/ in this checkout",
    )
    parser.add_argument("--no-demo", action="store_true", help="load no demo locations and no demo stock")
    options = parser.parse_args(arguments)
    try:
        refuse_taken_port(options.port)
        ensure_venv()
        return serve(
            bincard=venv_program("bincard"),
            port=options.port,
            data_dir=options.data_dir.resolve(),
            with_demo=not options.no_demo,
        )
    except MissingError as missing:
        print(missing, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def port_number(text: str) -> int:
    """A port as argparse wants it checked."""
    port = int(text)
    if not 1 <= port <= HIGHEST_PORT:
        raise argparse.ArgumentTypeError(f"a port is 1 to {HIGHEST_PORT}")
    return port


def refuse_taken_port(port: int) -> None:
    """Say so before installing anything.

    Raises:
        MissingError: another program listens there.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as fault:
            raise MissingError(
                f"Port {port} is not free ({fault.strerror}). "
                "Stop what uses it, or choose another with --port N."
            ) from None


def follow_parent() -> None:
    """In the child: be asked to stop when this script is killed outright (Linux only)."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def serve(*, bincard: Path, port: int, data_dir: Path, with_demo: bool) -> int:
    """Run the server until it ends, passing on the signals that mean stop.

    The server gets a process group of its own, so that Ctrl-C reaches it exactly once: from here.
    """
    url = f"http://127.0.0.1:{port}"
    command = [str(bincard), "serve", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--data-dir", str(data_dir), "--auth", "off"]
    asked_to_stop = threading.Event()
    with subprocess.Popen(
        command,
        env=environment(),
        stdin=subprocess.DEVNULL,
        process_group=0,
        preexec_fn=follow_parent if sys.platform == "linux" else None,  # noqa: PLW1509 - no threads yet
    ) as server:

        def stop(_number: int, _frame: FrameType | None) -> None:
            asked_to_stop.set()
            with contextlib.suppress(ProcessLookupError):
                server.send_signal(signal.SIGTERM)

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, stop)
        if wait_until_ready(url, server, asked_to_stop):
            sample = load_demo(bincard, url, asked_to_stop) if with_demo else None
            if server.poll() is None and not asked_to_stop.is_set():
                say(welcome(url, sample))
        status = server.wait()
    return status if status >= 0 else 128 - status


def wait_until_ready(url: str, server: subprocess.Popen[bytes], asked_to_stop: threading.Event) -> bool:
    """Whether the server became ready; False when it ended or was asked to end.

    Raises:
        MissingError: it lives and does not become ready; it is stopped first.
    """
    deadline = time.monotonic() + READY_WITHIN_SECONDS
    reason = "no answer"
    while time.monotonic() < deadline:
        if server.poll() is not None or asked_to_stop.is_set():
            return False
        try:
            with NO_PROXY.open(f"{url}/readyz", timeout=2):
                return True
        except urllib.error.HTTPError as refusal:
            reason = refusal.read(2000).decode("utf-8", "replace")
        except OSError as fault:
            reason = str(fault)
        asked_to_stop.wait(0.05)
    server.terminate()
    server.wait()
    raise MissingError(f"The server was not ready after {READY_WITHIN_SECONDS:.0f} s. {url}/readyz: {reason}")


def load_demo(bincard: Path, url: str, asked_to_stop: threading.Event) -> dict[str, object] | None:
    """Load the demo data (repeatable); returns the item and location to try first.

    `bincard demo` closes with one JSON line that names at least `sku` and `location`.
    """
    done = subprocess.run(
        [str(bincard), "demo", "--url", url],
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    try:
        sample = json.loads((done.stdout.strip().splitlines() or [""])[-1])
        if done.returncode == 0 and {"sku", "location"} <= sample.keys():
            return dict(sample)
    except (ValueError, AttributeError):
        pass
    if asked_to_stop.is_set():
        return None
    print(
        f"The demo data could not be loaded (exit status {done.returncode}); the server runs without it.",
        file=sys.stderr,
        flush=True,
    )
    return None


def welcome(url: str, sample: dict[str, object] | None) -> str:
    """What a person sees once everything is up; every curl works when pasted."""
    lines = [
        "",
        f"Bincard is ready at {url}",
        f"  API docs  {url}/docs",
        f"  metrics   {url}/metrics",
        "",
    ]
    if sample is None:
        lines += ["Try:", "", f"curl -s {url}/readyz", ""]
        return "\n".join(lines)
    sku, location = str(sample["sku"]), str(sample["location"])
    read = f"{url}/v1/availability/{urllib.parse.quote(sku, safe='')}"
    body = json.dumps({"lines": [{"sku": sku, "quantity": 1, "location": location}]})
    hold = shlex.join(
        [
            *["curl", "-s", f"{url}/v1/reservations"],
            *["-H", "Content-Type: application/json"],
            *["-H", f"Idempotency-Key: first-{time.time_ns() // 1_000_000}"],
            *["-d", body],
        ]
    )
    lines += ["Hold one unit for 15 minutes, then see one less:", ""]
    lines += [hold, "", shlex.join(["curl", "-s", read]), ""]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
