"""Docker's OpenAPI file, where it lies, as JSON schemas."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft4Validator

SHARED = Path(os.environ.get("BOXWOOD_SHARED", Path(__file__).parents[4] / "shared"))
FILE = SHARED / "data" / "moby" / "swagger.yaml"


@cache
def _load() -> dict[str, Any]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    with FILE.open("rb") as file:
        return yaml.load(file, loader)


def document() -> dict[str, Any]:
    """Return the file, or skip and say so."""
    if not FILE.exists():
        pytest.skip(f"Docker's OpenAPI file is not there ({FILE})")
    return _load()


def properties(name: str) -> dict[str, Any]:
    """Return the properties of a definition, those of ``allOf`` included."""
    return _properties(document()["definitions"][name])


def _properties(definition: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in definition:
        return properties(definition["$ref"].rpartition("/")[2])
    found = dict(definition.get("properties", {}))
    for part in definition.get("allOf", ()):
        found.update(_properties(part))
    return found


def validator(name: str) -> Draft4Validator:
    """Return what holds a value against a definition."""
    document()
    return _validator(name)


@cache
def _validator(name: str) -> Draft4Validator:
    return Draft4Validator({"$ref": f"#/definitions/{name}", "definitions": _definitions()})


@cache
def _definitions() -> dict[str, Any]:
    found = {key: _convert(value) for key, value in _load()["definitions"].items()}
    # A pointer without omitempty in Docker's Go: null when not set, whatever the file says.
    found["Resources"]["properties"]["MemorySwappiness"]["type"] = ["integer", "null"]
    return found


def _convert(node: Any) -> Any:
    """OpenAPI 2 says ``x-nullable``, and Go's slices, maps and pointers are null when absent."""
    if isinstance(node, list):
        return [_convert(item) for item in node]
    if not isinstance(node, dict):
        return node
    new = {key: _convert(value) for key, value in node.items() if key not in _DROPPED}
    kind = new.get("type")
    if isinstance(kind, str) and (node.get("x-nullable") or kind in ("array", "object")):
        new["type"] = [kind, "null"]
        if "enum" in new:
            new["enum"] = [*new["enum"], None]
    if "$ref" in new and node.get("x-nullable"):
        return {"anyOf": [{"$ref": new["$ref"]}, {"type": "null"}]}
    if "$ref" in new:
        return {"anyOf": [{"$ref": new["$ref"]}, {"type": "null"}]}
    if "allOf" in new and node.get("x-nullable"):
        return {"anyOf": [new, {"type": "null"}]}
    return new


_DROPPED = frozenset({"example", "description", "format", "default", "title"})


def undocumented(name: str, value: dict[str, Any]) -> set[str]:
    """Return the keys of ``value`` that the definition does not have."""
    return set(value) - set(properties(name))
