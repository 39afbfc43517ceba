"""OCI image layouts that tests fill by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from boxwood.model.digest import Digest
from boxwood.model.platform import Platform

OCI = "application/vnd.oci.image"


class Layout:
    """An OCI layout that a test fills by hand."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = f"oci:{path}"
        self._entries: list[dict[str, Any]] = []
        (path / "blobs/sha256").mkdir(parents=True)
        (path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')

    def blob(self, kind: str, data: bytes | dict[str, Any]) -> dict[str, Any]:
        """Add content; returns its descriptor."""
        content = data if isinstance(data, bytes) else json.dumps(data).encode()
        digest = Digest.of(content)
        (self.path / "blobs/sha256" / digest.hex).write_bytes(content)
        return {"mediaType": f"{OCI}.{kind}", "digest": str(digest), "size": len(content)}

    def manifest(self, layer: bytes, plain: bytes = b"", **more: Any) -> dict[str, Any]:
        """Add an image of one layer, whose tar is ``plain`` if not itself; returns its
        descriptor."""
        rootfs = {"type": "layers", "diff_ids": [Digest.of(plain or layer)]}
        config = {"os": "linux", "architecture": "amd64", "rootfs": rootfs}
        document = {
            "schemaVersion": 2,
            "mediaType": f"{OCI}.manifest.v1+json",
            "config": self.blob("config.v1+json", config),
            "layers": [self.blob("layer.v1.tar", layer)],
            **more,
        }
        return self.blob("manifest.v1+json", document)

    def manifest_config(self, manifest: str) -> str:
        """Return the digest of the config that a manifest names: the image's id."""
        document = (self.path / "blobs/sha256" / Digest.parse(manifest).hex).read_text()
        return str(json.loads(document)["config"]["digest"])

    def index(self) -> dict[str, Any]:
        """Add an index of an image for this machine and of one for another."""
        machine, other = Platform.host().architecture, "riscv64"
        listed = [
            {**self.manifest(one.encode() * 600), "platform": {"os": "linux", "architecture": one}}
            for one in (other, machine)
        ]
        document = {
            "schemaVersion": 2,
            "mediaType": f"{OCI}.index.v1+json",
            "manifests": listed,
        }
        return self.blob("index.v1+json", document) | {"below": listed}

    def call(self, name: str, entry: dict[str, Any]) -> str:
        """Give an image a name; returns its digest."""
        notes = {"org.opencontainers.image.ref.name": name}
        plain = {key: value for key, value in entry.items() if key != "below"}
        self._entries.append({**plain, "annotations": notes})
        (self.path / "index.json").write_text(
            json.dumps({"schemaVersion": 2, "manifests": self._entries})
        )
        digest: str = entry["digest"]
        return digest
