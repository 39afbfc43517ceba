"""Image archives in all the shapes that there are."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import json
import lzma
from typing import Any

import zstandard

from tests.integration.tar.archives import archive, entry, folder, link

BASE = archive(
    folder("bin"), entry("bin/sh", data=b"shell"), folder("etc"), entry("etc/a", data=b"a")
)
TOP = archive(folder("etc"), entry("etc/.wh.a"), entry("etc/b", data=b"b"))

COMPRESS = {
    "plain": lambda data: data,
    "gzip": gzip.compress,
    "gzip in two members": lambda data: (
        gzip.compress(data[:999]) + gzip.compress(data[999:]) + bytes(64)
    ),
    "xz": lzma.compress,
    "bzip2": bz2.compress,
    "zstd": zstandard.compress,
    "zstd with a skippable frame": lambda data: (
        b"\x50\x2a\x4d\x18\4\0\0\0abcd" + zstandard.compress(data)
    ),
}  # fmt: skip


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def config(*layers: bytes, **fields: Any) -> bytes:
    """Return a config for these layers, as any builder writes it."""
    document = {
        "architecture": "amd64",
        "os": "linux",
        "created": "2021-02-03T04:05:06.123456789Z",
        "config": {"Cmd": ["sh"], "Labels": {"key": "value"}},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{sha(layer)}" for layer in layers]},
        "history": [{"created": "2021-02-03T04:05:06Z", "created_by": "x"} for _ in layers],
    }
    return json.dumps({**document, **fields}).encode()


def docker_old(*layers: bytes, names: Any = ("old:1",), **fields: Any) -> bytes:
    """``docker save`` before 25: folders, a repeated layer as a link, members in bad order."""
    document = config(*layers, **fields)
    members, paths, known = [], [], {}
    for number, layer in enumerate(layers):
        path = f"layer{number}/layer.tar"
        paths.append(path)
        if layer in known:
            members.append(link(path, f"../{known[layer]}"))
        else:
            known[layer] = path
            members.append(entry(path, data=layer))
    manifest = [{"Config": f"{sha(document)}.json", "RepoTags": names, "Layers": paths}]
    members.append(entry("manifest.json", data=json.dumps(manifest).encode()))
    members.append(entry(f"{sha(document)}.json", data=document))
    return archive(*members[::-1])


def oci(
    *layers: bytes, annotations: Any = None, stored: Any = None, change: Any = None, **fields: Any
) -> bytes:
    """An OCI layout; ``stored`` are the layers' bytes as kept, ``change`` alters the documents."""
    document = config(*layers, **fields)
    kept = stored or layers
    documents: dict[str, Any] = {
        "manifest": {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("application/vnd.oci.image.config.v1+json", document),
            "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", x) for x in kept],
        }
    }
    if change:
        change(documents)
    manifest = json.dumps(documents["manifest"]).encode()
    index = documents.get("index") or {
        "schemaVersion": 2,
        "manifests": [
            {
                **descriptor("application/vnd.oci.image.manifest.v1+json", manifest),
                "annotations": annotations
                or {"io.containerd.image.name": "docker.io/library/oci:2"},
            }
        ],
    }
    blobs = {sha(data): data for data in (document, manifest, *kept)}
    return archive(
        entry("index.json", data=json.dumps(index).encode()),
        entry("oci-layout", data=b'{"imageLayoutVersion":"1.0.0"}'),
        folder("blobs"),
        *(entry(f"blobs/sha256/{name}", data=data) for name, data in blobs.items()),
    )


def docker_new(*layers: bytes, name: str = "new:3") -> bytes:
    """``docker save`` from 25 on: an OCI layout with Docker's manifest."""
    document = config(*layers)
    manifest = [
        {
            "Config": f"blobs/sha256/{sha(document)}",
            "RepoTags": [name],
            "Layers": [f"blobs/sha256/{sha(layer)}" for layer in layers],
        }
    ]
    return archive(
        *(entry(f"blobs/sha256/{sha(data)}", data=data) for data in {document, *layers}),
        entry("index.json", data=b'{"schemaVersion":2,"manifests":[]}'),
        entry("manifest.json", data=json.dumps(manifest).encode()),
    )


def descriptor(kind: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": kind, "digest": f"sha256:{sha(data)}", "size": len(data)}
