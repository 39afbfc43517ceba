"""``/containers/{id}``: its files, copied, exported, compared; and ``/commit``."""

from __future__ import annotations

import base64
import contextlib
import stat
from typing import TYPE_CHECKING, Any

import msgspec

from boxwood.api import decode
from boxwood.api.http.message import TEXT, Response, json_response
from boxwood.api.routing import JSON_BODY, STREAM_BODY, Route
from boxwood.errors import InvalidArgument
from boxwood.model import times
from boxwood.model.config import ContainerConfig
from boxwood.services.containers.archive import PathStat

if TYPE_CHECKING:
    from boxwood.api.call import Call

TAR = "application/x-tar"
STREAM = "application/octet-stream"
_STAT_HEADER = "X-Docker-Container-Path-Stat"

# Bits of Go's os.FileMode (its documentation), by the kernel's kinds of files.
_GO_KINDS = {
    stat.S_IFDIR: 1 << 31,
    stat.S_IFLNK: 1 << 27,
    stat.S_IFBLK: 1 << 26,
    stat.S_IFCHR: 1 << 26 | 1 << 21,
    stat.S_IFIFO: 1 << 25,
    stat.S_IFSOCK: 1 << 24,
}
_GO_BITS = {stat.S_ISUID: 1 << 23, stat.S_ISGID: 1 << 22, stat.S_ISVTX: 1 << 20}


def go_mode(mode: int) -> int:
    """Return a kernel's mode as Go's ``os.FileMode``."""
    bits = sum(theirs for ours, theirs in _GO_BITS.items() if mode & ours)
    return mode & 0o777 | _GO_KINDS.get(stat.S_IFMT(mode), 0) | bits


def _stat_header(found: PathStat) -> tuple[str, str]:
    shown = {
        "name": found.name,
        "size": found.size,
        "mode": go_mode(found.mode),
        "mtime": times.rfc3339(found.mtime),
        "linkTarget": found.target,
    }
    return _STAT_HEADER, base64.b64encode(msgspec.json.encode(shown)).decode()


def _path(call: Call) -> str:
    path = call.text("path")
    if not path:
        raise InvalidArgument("bad parameter: 'path' cannot be empty")
    if "\0" in path:
        raise InvalidArgument("bad parameter: 'path' holds a NUL")
    return path


async def head_archive(call: Call) -> Response:
    """``HEAD /containers/{id}/archive``"""
    found = await call.engine.containers.stat_path(call.params["id"], _path(call))
    return Response(200, b"", "", (_stat_header(found),))


async def get_archive(call: Call) -> None:
    """``GET /containers/{id}/archive``: an error before the first byte is a plain HTTP error."""
    async with contextlib.aclosing(
        call.engine.containers.get_archive(call.params["id"], _path(call))
    ) as source:
        found = await anext(source)
        assert isinstance(found, PathStat)
        await call.pour(source, TAR, (_stat_header(found),))


async def put_archive(call: Call) -> Response:
    """``PUT /containers/{id}/archive``"""
    await call.engine.containers.put_archive(
        call.params["id"],
        _path(call),
        call.request.body,
        keep_kinds=call.flag("noOverwriteDirNonDir"),
        chown=call.flag("copyUIDGID"),
    )
    return Response(200, b"", TEXT)


async def export(call: Call) -> None:
    """``GET /containers/{id}/export``"""
    async with contextlib.aclosing(call.engine.containers.export(call.params["id"])) as source:
        await call.pour(source, STREAM)


async def changes(call: Call) -> Response:
    """``GET /containers/{id}/changes``"""
    return json_response(await call.engine.containers.changes(call.params["id"]) or None)


async def commit(call: Call) -> Response:
    """``POST /commit``"""
    body = call.json()
    config = decode.convert(body, ContainerConfig) if body is not None else None
    image = await call.engine.commit(
        call.text("container"),
        call.text("repo"),
        call.text("tag"),
        comment=call.text("comment"),
        author=call.text("author"),
        changes=tuple(call.request.query.get("changes", ())),
        pause=call.flag("pause", True),
        config=config,
    )
    return json_response({"Id": image.id}, 201)


def _route(method: str, tail: str, handler: Any, action: str, **more: Any) -> Route:
    path = "/containers/{id}" + tail
    return Route(method, path, handler, action=f"container.{action}", about="id", **more)


ROUTES = (
    _route("HEAD", "/archive", head_archive, "archive.stat"),
    _route("GET", "/archive", get_archive, "archive.get", cancel=True),
    _route("PUT", "/archive", put_archive, "archive.put", body=STREAM_BODY),
    _route("GET", "/export", export, "export", cancel=True),
    _route("GET", "/changes", changes, "changes", cancel=True),
    Route("POST", "/commit", commit, body=JSON_BODY, action="container.commit"),
)
