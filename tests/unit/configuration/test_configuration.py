"""The daemon's configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from boxwood import configuration
from boxwood.configuration import Configuration, load
from boxwood.errors import InvalidArgument, Unavailable
from boxwood.model.config import Ulimit


@pytest.fixture(autouse=True)
def no_default_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whatever this machine has in /etc is not looked at."""
    monkeypatch.setattr(configuration, "DEFAULT_FILE", tmp_path / "none.json")


def written(tmp_path: Path, content: Any) -> str:
    path = tmp_path / "daemon.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def test_every_key_is_documented_and_none_besides() -> None:
    keys = {field.encode_name for field in configuration._FIELDS.values()}
    assert set(configuration.DOCS) == keys
    assert keys >= configuration.RELOADED


def test_defaults() -> None:
    found = load({})
    assert found == Configuration()
    assert (found.live_restore, found.shm_size) == (True, 64 << 20)
    assert found.log_opts == {"max-size": "10m", "max-file": "5"}


def test_file_and_flags(tmp_path: Path) -> None:
    path = written(tmp_path, {"data-root": "/d", "labels": ["a=b"], "live-restore": False})
    found = load({"config_file": path, "exec-root": "/e", "log_opt": ["max-size=1m"]})
    assert (found.data_root, found.exec_root, found.labels) == ("/d", "/e", ("a=b",))
    assert found.live_restore is False
    assert found.log_opts == {"max-size": "1m"}


def test_repeated_flags() -> None:
    found = load({"host": ["fd://"], "default_ulimit": ["nofile=10:20"], "dns_opt": ["ndots:1"]})
    assert found.hosts == ("fd://",)
    assert found.default_ulimits == {"nofile": Ulimit(name="nofile", soft=10, hard=20)}
    assert found.dns_opts == ("ndots:1",)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"no-such-key": 1}, "no-such-key: unknown key"),
        ({"data_root": "/x"}, "data_root: unknown key"),
        ({"debug": "yes"}, "debug"),
        ({"data-root": "relative"}, "data-root: not an absolute path"),
        ({"log-level": "loud"}, "log-level"),
        ({"storage-opts": ["x"]}, "not KEY=VALUE"),
        ({"shutdown-timeout": -1}, "shutdown-timeout"),
        ({"default-shm-size": "much"}, "default-shm-size"),
        ("[]", "not a JSON object"),
        ("{", "not a JSON object"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, content: Any, words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        load({"config_file": written(tmp_path, content)})


def test_a_key_given_twice_is_an_error(tmp_path: Path) -> None:
    path = written(tmp_path, {"hosts": ["fd://"]})
    with pytest.raises(InvalidArgument, match="hosts: given both as a flag and in"):
        load({"config_file": path, "host": ["unix:///x"]})


def test_unknown_and_refused_flags() -> None:
    with pytest.raises(InvalidArgument, match="--bogus"):
        load({"bogus": 1})
    with pytest.raises(InvalidArgument, match="userns-remap"):
        load({"userns_remap": "default"})


def test_a_file_that_was_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="no such file"):
        load({"config_file": str(tmp_path / "nope.json")})


def test_an_empty_file_is_fine(tmp_path: Path) -> None:
    assert load({"config_file": written(tmp_path, " \n")}) == Configuration()


def test_reload_takes_only_what_can_change() -> None:
    after = configuration.reloaded(
        Configuration(), Configuration(data_root="/other", debug=True, labels=("a=b",))
    )
    assert (after.data_root, after.debug, after.labels) == ("/var/lib/boxwood", True, ("a=b",))
