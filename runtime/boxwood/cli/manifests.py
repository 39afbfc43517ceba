"""Manifest lists on their way: kept below the configuration folder, as Docker's client keeps them.

``manifests/LIST/MANIFEST``: a JSON document for each manifest of a list; in the names ``/`` is
``_`` and ``:`` is ``-``. Both clients read what the other wrote.
"""

from __future__ import annotations

import base64
import contextlib
import os
import shutil

from boxwood.cli.creation import with_tag
from boxwood.cli.errors import CliError
from boxwood.cli.progress import auth_header, canonical
from boxwood.client import jsonwire
from boxwood.client.client import quote
from boxwood.client.errors import ApiError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from boxwood.cli.context import Context

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
INDEXES = (OCI_INDEX, DOCKER_LIST)
LIMIT = 16 << 20
"""Bytes of a kept manifest."""


def whole(name: str) -> str:
    """The canonical name, tag included."""
    return canonical(with_tag(name))


def look(ctx: Context, name: str) -> dict[str, Any]:
    """A manifest or a list from its registry, in the form in which it is kept. Raises CliError."""
    headers = [("X-Registry-Auth", auth_header(ctx, name))]
    path = f"/boxwood/manifests/{quote(name)}"
    try:
        found = ctx.client.request("GET", path, headers=headers).json()
    except ApiError as error:
        if error.status == 404:
            raise CliError(f"no such manifest: {name}") from error
        raise
    return record(name, found["Descriptor"], found["Raw"])


def record(name: str, descriptor: dict[str, Any], raw: str) -> dict[str, Any]:
    """What is kept of a manifest."""
    kind = "OCIManifest" if descriptor["mediaType"] == OCI_MANIFEST else "SchemaV2Manifest"
    document = jsonwire.loads(base64.b64decode(raw))
    return {"Ref": name, "Descriptor": descriptor, "Raw": raw, kind: document}


def is_list(found: dict[str, Any]) -> bool:
    """Whether it names manifests."""
    return found["Descriptor"]["mediaType"] in INDEXES


def document_of(found: dict[str, Any]) -> dict[str, Any]:
    """The manifest itself; the order of its keys is that of its bytes."""
    value: dict[str, Any] = jsonwire.loads(base64.b64decode(found["Raw"]))
    return value


def list_document(descriptors: list[dict[str, Any]]) -> tuple[str, bytes]:
    """The media type and the bytes of a list, the very ones that Docker's client makes."""
    import json

    first = descriptors[0]["mediaType"] if descriptors else ""
    kind = OCI_INDEX if first == OCI_MANIFEST else DOCKER_LIST
    entries = [_entry(descriptor) for descriptor in descriptors]
    made = {"schemaVersion": 2, "mediaType": kind, "manifests": entries}
    return kind, json.dumps(made, indent=3, ensure_ascii=False).encode()


def _entry(descriptor: dict[str, Any]) -> dict[str, Any]:
    keys = ("mediaType", "size", "digest", "urls", "annotations")
    entry = {key: descriptor[key] for key in keys if descriptor.get(key)}
    return {**entry, "platform": platform_of(descriptor.get("platform") or {})}


def platform_of(said: dict[str, Any]) -> dict[str, Any]:
    """A platform with its keys in the order in which they are written."""
    order = ("architecture", "os", "os.version", "os.features", "variant")
    return {"architecture": "", "os": "", **{key: said[key] for key in order if said.get(key)}}


# What is kept


def _folder(ctx: Context, name: str) -> str:
    return os.path.join(ctx.config_dir, "manifests", _safe(name))


def _safe(name: str) -> str:
    return name.replace(":", "-").replace("/", "_")


def kept(ctx: Context, name: str) -> list[dict[str, Any]]:
    """The manifests of a list, in the order of their names; empty: there is no such list."""
    folder = _folder(ctx, name)
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        return []
    return [_read(os.path.join(folder, one)) for one in names if not one.startswith(".")]


def _read(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            value = jsonwire.loads(file.read(LIMIT))
        _check_record(value)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CliError(f"manifest: {path}: cannot be read: {error}") from error
    found: dict[str, Any] = value
    return found


def _check_record(value: Any) -> None:
    """Raise KeyError or TypeError for what is no kept manifest."""
    for key in ("mediaType", "digest", "size"):
        value["Descriptor"][key]
    value["Ref"], value["Raw"]


def keep(ctx: Context, name: str, found: dict[str, Any]) -> None:
    """Put a manifest into a list, in the place of one of its name. Raises CliError."""
    folder = _folder(ctx, name)
    path = os.path.join(folder, _safe(found["Ref"]))
    fresh = os.path.join(folder, f".{os.getpid()}")
    try:
        os.makedirs(folder, 0o755, exist_ok=True)
        with open(fresh, "wb") as file:
            file.write(jsonwire.dumps(found))
        os.rename(fresh, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(fresh)
        raise CliError(f"manifest: write {path}: {error.strerror}") from error


def forget(ctx: Context, name: str) -> None:
    """Remove a list. Raises CliError."""
    try:
        shutil.rmtree(_folder(ctx, name))
    except FileNotFoundError:
        raise CliError(f"No such manifest: {name}") from None
    except OSError as error:
        raise CliError(f"manifest: remove {name}: {error.strerror}") from error
