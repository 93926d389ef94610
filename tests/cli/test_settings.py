from __future__ import annotations

import re
from pathlib import Path

import pytest

from api.settings import (
    ALL,
    BooksSettings,
    ReplaySettings,
    ServeSettings,
    SettingsError,
    is_loopback,
    option_of,
    read_settings,
    variable_of,
)

OPTION, VARIABLE, KEY = {"port": 1}, {"BINCARD_PORT": "2"}, "port = 3"


@pytest.mark.parametrize(
    ("option", "variable", "key", "port"),
    [
        (OPTION, VARIABLE, KEY, 1),
        (OPTION, {}, KEY, 1),
        (OPTION, VARIABLE, "", 1),
        ({}, VARIABLE, KEY, 2),
        ({}, VARIABLE, "", 2),
        ({}, {}, KEY, 3),
        ({}, {}, "", 8080),
        ({"port": None}, {"BINCARD_PORT": ""}, KEY, 3),
    ],
)
def test_who_wins(
    tmp_path: Path, option: dict[str, object], variable: dict[str, str], key: str, port: int
) -> None:
    """Option, environment, file, default; an empty variable says nothing."""
    (tmp_path / "bincard.toml").write_text(key)
    assert read_settings(ServeSettings, option, variable, tmp_path).port == port


@pytest.mark.parametrize(
    ("options", "variables", "file", "redis_url", "data_dir"),
    [
        ({}, {}, "", None, "data"),
        ({"data_dir": "o"}, {"BINCARD_REDIS_URL": "redis://v"}, "", None, "o"),
        ({"redis_url": "redis://o"}, {"BINCARD_DATA_DIR": "v"}, "data_dir = 'f'", "redis://o", "data"),
        ({}, {"BINCARD_DATA_DIR": "v"}, "redis_url = 'redis://f'", None, "v"),
    ],
)
def test_where_the_stock_is(
    tmp_path: Path,
    options: dict[str, object],
    variables: dict[str, str],
    file: str,
    redis_url: str | None,
    data_dir: str,
) -> None:
    """A directory and a URL exclude each other: the stronger source decides."""
    (tmp_path / "bincard.toml").write_text(file)
    settings = read_settings(ServeSettings, options, variables, tmp_path)
    assert (settings.redis_url, settings.data_dir) == (redis_url, Path(data_dir))


@pytest.mark.parametrize(
    ("options", "variables", "file", "words"),
    [
        ({"port": 70_000}, {}, "", "--port is 70000: it must be a whole number from 0"),
        ({}, {"BINCARD_PORT": "x"}, "", "BINCARD_PORT is 'x': it must be a whole number from 0"),
        ({}, {"BINCARD_PORT": "tcp://10.0.0.1:80"}, "", "enableServiceLinks: false"),
        ({}, {}, "workers = 0", r"workers in .*bincard.toml is 0: it must be a whole number from 1"),
        ({}, {}, "durability = 'some'", "it must be none, local or replicated"),
        ({}, {}, "data_dir = 7", "it must be a directory"),
        ({}, {}, "prot = 1", "there is no setting prot; did you mean port?"),
        ({}, {}, "port 1", r"bincard.toml cannot be read: .*line 1"),
        ({}, {"BINCARD_CONFIG": "gone.toml"}, "", r"BINCARD_CONFIG names .*gone.toml, which does not"),
        ({"redis_url": "redis://a", "data_dir": "d"}, {}, "", "--redis-url and --data-dir exclude"),
    ],
)
def test_refusals_name_the_culprit(
    tmp_path: Path, options: dict[str, object], variables: dict[str, str], file: str, words: str
) -> None:
    """Each says which setting, where it comes from, and what would do."""
    (tmp_path / "bincard.toml").write_text(file)
    with pytest.raises(SettingsError, match=words):
        read_settings(ServeSettings, options, variables, tmp_path)


def test_a_file_elsewhere(tmp_path: Path) -> None:
    """BINCARD_CONFIG names a file; one file serves all commands."""
    elsewhere = tmp_path / "etc.toml"
    elsewhere.write_text("port = 9\nbaskets = 3\njson = true\nspeed = 2\n")
    environment = {"BINCARD_CONFIG": str(elsewhere)}
    assert read_settings(ServeSettings, {}, environment, tmp_path).port == 9
    assert read_settings(ReplaySettings, {}, environment, tmp_path).baskets == 3
    assert read_settings(ReplaySettings, {}, environment, tmp_path).speed == 2.0
    assert read_settings(BooksSettings, {}, environment, tmp_path).json is True


def test_every_setting_has_words_of_its_own() -> None:
    """No message falls back to the words of the parser."""
    for kind in ALL:
        for name in kind.__struct_fields__:
            with pytest.raises(SettingsError) as refused:
                read_settings(kind, {name: [1]}, {}, Path("nowhere"))
            assert str(refused.value).startswith(f"{option_of(name)} is [1]: it must be ")
            assert "Expected" not in str(refused.value)
            assert re.fullmatch(r"BINCARD_[A-Z_]+", variable_of(name))


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("localhost.example", False),
        ("", False),
    ],
)
def test_loopback(host: str, loopback: bool) -> None:
    """Only what surely stays on this machine counts."""
    assert is_loopback(host) is loopback
