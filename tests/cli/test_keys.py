"""`bincard keys` and `--auth keys`: the first key, several workers, a server that is stopped, and clients."""

import json
import subprocess
from pathlib import Path

from tests.cli.served import BINCARD, Served, Start, until

SEEN_SECONDS = 5.0
EVERYTHING = ("--scope", "all")


def keys(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs `bincard keys` in the directory of a server."""
    command = [str(BINCARD), "keys", *arguments]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=60, check=False)


def make(directory: Path, *arguments: str) -> str:
    """The text of a new key, which is all that is printed."""
    made = keys(directory, "create", "of a test", *arguments)
    assert made.returncode == 0, made.stderr
    assert "not shown again" in made.stderr
    (line,) = made.stdout.splitlines()
    assert line not in made.stderr
    return line


def statuses(served: Served, key: str, asks: int = 12) -> set[int]:
    """What several connections are answered, which several workers take."""
    bearer = {"Authorization": f"Bearer {key}"}
    return {served.ask("GET", "/v1/locations", headers=bearer)[0] for _ in range(asks)}


def test_the_life_of_a_key(serve: Start, start: Start, tmp_path: Path) -> None:
    """Made while it is served and while it is not; rotated, revoked; the workers follow within seconds."""
    served = serve("--auth", "keys", "--workers", "2")
    assert "authentication is off" not in served.errors
    assert served.ask("GET", "/v1/locations")[0] == 401
    assert served.ask("GET", "/healthz")[0] == 200
    first = make(tmp_path, *EVERYTHING)
    until(lambda: statuses(served, first) == {200}, "every worker knows the key", SEEN_SECONDS)
    name = first[4:12]
    made = served.ask(
        "PUT", "/v1/locations/s7", {"kind": "store"}, headers={"Authorization": f"Bearer {first}"}
    )
    assert made[0] == 201
    logged = f"bincard.changes: key {name}: PUT /v1/locations/s7"
    until(lambda: logged in served.errors, "the log says who it was", SEEN_SECONDS)
    rotated = keys(tmp_path, "rotate", name, "--json")
    second = json.loads(rotated.stdout)["key"]
    until(lambda: statuses(served, second) == {200}, "every worker knows the secret", SEEN_SECONDS)
    until(lambda: statuses(served, first) == {401}, "none takes the old one", SEEN_SECONDS)
    assert served.stop() == 0
    served.wait_until_gone()

    assert f"{name}  good  of a test" in keys(tmp_path, "list").stdout
    third = make(tmp_path, "--scope", "stock:read", "--location", "s7")
    served = serve("--auth", "keys", "--workers", "2")
    assert [statuses(served, key) for key in (first, second, third)] == [{401}, {200}, {200}]
    assert keys(tmp_path, "revoke", name).returncode == 0
    until(lambda: statuses(served, second) == {401}, "every worker refuses it", SEEN_SECONDS)
    listed = json.loads(keys(tmp_path, "list", "--json").stdout)
    assert [key["revoked_at"] is not None for key in listed if key["id"] == name] == [True]
    assert listed == sorted(listed, key=lambda key: key["id"])
    for secret in (first, second, third):
        assert secret not in served.errors
        kept = b"".join(path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file())
        assert secret[13:45].encode() not in kept


def test_clients_send_their_key(serve: Start, start: Start, tmp_path: Path) -> None:
    """From the environment; what was cut off is known before it is sent."""
    served = serve("--auth", "keys")
    key = make(tmp_path, *EVERYTHING)
    until(lambda: statuses(served, key, 1) == {200}, "the worker knows the key", SEEN_SECONDS)
    demo = ("demo", "--url", f"http://127.0.0.1:{served.port}")
    assert start(*demo).process.wait(60) == 1
    assert start(*demo, environment={"BINCARD_API_KEY": key}).process.wait(60) == 0
    cut = start(*demo, environment={"BINCARD_API_KEY": key[:-1]})
    assert cut.process.wait(60) == 1
    assert "cut off or mistyped" in cut.errors
    assert key[:-1] not in cut.errors
    bench = start("bench", "canonical", "--api-key", key)
    assert bench.process.wait(60) == 2
    assert "BINCARD_API_KEY" in bench.errors
    assert key not in bench.errors


def test_what_cannot_be_made(serve: Start, tmp_path: Path) -> None:
    """Is said in a line."""
    serve("--auth", "keys")
    for arguments, words in (
        (("create", "a", "--scope", "everything"), "/scopes/0: Invalid enum value"),
        (("create", "a", "--scope", "all", "--quantities", "banded"), "has no scopes but"),
        (("create", "a", "--scope", "stock:read", "--location", "no place"), "/locations/0"),
        (("rotate", "aaaaaaaa"), "there is no key aaaaaaaa"),
        (("revoke", "aaaaaaaa"), "there is no key aaaaaaaa"),
    ):
        refused = keys(tmp_path, *arguments)
        assert refused.returncode in {1, 2}
        assert words in refused.stderr, refused.stderr
        assert "Traceback" not in refused.stderr
