"""Budgets of layers, from the configuration's keys to the error that a client gets."""

from __future__ import annotations

import gzip
import json
import urllib.parse
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.tar.archives import archive, entry
from tests.support.engine import Engine
from tests.support.needs import need_root

LIMITS = {
    "layer-max-size": "80m",
    "layer-max-entries": 3,
    "layer-max-ratio": 900,
    "layer-max-name": 40,
}
FINE = archive(entry("a", data=b"x" * 9000), entry("n" * 40))
BAD = {
    "layer-max-size": archive(entry("a", data=b"x" * (80 << 20))),
    "layer-max-entries": archive(*(entry(f"a{n}") for n in range(4))),
    "layer-max-ratio": gzip.compress(bytes(70 << 20)),
    "layer-max-name": archive(entry("n" * 41)),
}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    need_root()
    file = tmp_path_factory.mktemp("limits") / "daemon.json"
    file.write_text(json.dumps(LIMITS))
    engine = Engine("--config-file", str(file))
    try:
        engine.start()
        yield engine
    finally:
        engine.close()


def _import(engine: Engine, data: bytes, name: str) -> Any:
    query = urllib.parse.urlencode({"fromSrc": "-", "repo": name, "tag": "1"})
    headers = {"Content-Type": "application/x-tar"}
    return engine.api("POST", f"/images/create?{query}", data, headers=headers)


@pytest.mark.parametrize("key", BAD)
def test_each_budget(key: str, engine: Engine) -> None:
    answer = _import(engine, BAD[key], "bad")
    assert answer.status >= 400 or b'"error"' in answer.body, answer.body
    assert engine.api("GET", "/images/json").json() == []
    fine = _import(engine, FINE, "fine")
    assert fine.status == 200, fine.body
    assert b'"error"' not in fine.body, fine.body
    assert engine.api("DELETE", "/images/fine:1").status == 200
