"""Which test shows which field: each says so with `@shows`, and a test reads all of them."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from boxwood.api import fields
from boxwood.model import config, request

HERE = Path(__file__).parent
T = TypeVar("T", bound=Callable[..., object])

# Structs of a body that the OpenAPI file has inline, so that fields.py does not name their fields.
INLINE: dict[str, type[msgspec.Struct]] = {
    "Ulimit": config.Ulimit,
    "WeightDevice": config.WeightDevice,
    "VolumeDriverConfig": config.VolumeDriverConfig,
    "ExecConfig": request.ExecConfig,
    "ExecStart": request.ExecStart,
}


def shows(*names: str) -> Callable[[T], T]:
    """Say that a test shows the effect of these fields (`HostConfig.Memory`)."""
    assert names

    def same(test: T) -> T:
        return test

    return same


def honoured() -> set[str]:
    """Every field that the engine says it honours."""
    told = {
        f"{table}.{name}"
        for table, rules in fields.TABLE.items()
        for name, rule in rules.items()
        if rule.state == fields.HONOURED
    }
    inline = {
        f"{name}.{one.encode_name}"
        for name, struct in INLINE.items()
        for one in msgspec.structs.fields(struct)
    }
    return told | inline


def claims() -> Iterator[tuple[str, str]]:
    """Each field that a test of this folder claims, and the test's name."""
    for path in sorted(HERE.glob("test_*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                for call in node.decorator_list:
                    yield from ((name, f"{path.name}::{node.name}") for name in _names(call))


def _names(call: ast.expr) -> list[str]:
    if not (isinstance(call, ast.Call) and getattr(call.func, "id", "") == "shows"):
        return []
    return [ast.literal_eval(word) for word in call.args]
