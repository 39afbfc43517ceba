"""`cp`: copy between a container and the host."""

from __future__ import annotations

import os
import stat
from contextlib import suppress

from boxwood.cli.command import Command, Flag
from boxwood.cli.errors import CliError
from boxwood.cli.files import STDOUT, read_pieces, remove_when_interrupted, write_answer
from boxwood.client.client import quote
from boxwood.client.errors import ApiError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self

    from boxwood.cli.command import Values
    from boxwood.cli.context import Context
    from boxwood.client.client import Query

_DIRECTORY, _LINK = 1 << 31, 1 << 27
"""Bits of the mode in a path's stat: Go's os.FileMode."""
_NO_DIRECTORY = "no such directory"
_NOT_OVER_FILE = "cannot copy directory"


def run(ctx: Context, values: Values, args: list[str]) -> int:
    """Copy in or out. Raises CliError, ApiError."""
    source, target = (_container(text) for text in args)
    if source and target:
        raise CliError("copying between containers is not supported")
    if source:
        size = _copy_out(ctx, values, source, args[1])
    elif target:
        size = _copy_in(ctx, values, args[0], target)
    else:
        raise CliError("must specify at least one container source")
    if not values["quiet"] and args[1] != "-" and os.isatty(2):
        from boxwood.cli.format._units import human_size

        ctx.err(f"Successfully copied {human_size(size)} to {args[1]}")
    return 0


def _container(text: str) -> tuple[str, str] | None:
    """The container and the path in it; None for a path of the host."""
    if text == "-" or text.startswith(("/", ".")) or ":" not in text:
        return None
    name, _, path = text.partition(":")
    return (name, path) if name else None


def _route(container: str) -> str:
    return f"/containers/{quote(container)}/archive"


def _stat(headers: dict[str, str]) -> dict[str, Any]:
    """The stat that an archive answer carries."""
    import binascii

    from boxwood.client import jsonwire

    raw = binascii.a2b_base64(headers.get("x-docker-container-path-stat", ""))
    found = jsonwire.loads(raw)
    if not isinstance(found, dict):
        raise CliError("copy: the engine says nothing of the path")
    return found


# Out of a container


def _copy_out(ctx: Context, values: Values, source: tuple[str, str], target: str) -> int:
    container, path = source
    wanted = path
    called = ""
    if values["follow_link"]:
        with suppress(ApiError):  # an answer to HEAD cannot say why: that to GET does
            answer = ctx.client.request("HEAD", _route(container), query={"path": path})
            found = _stat(answer.headers)
            if found["mode"] & _LINK:
                wanted, called = found["linkTarget"], os.path.basename(path.rstrip("/"))
    response = ctx.client.request("GET", _route(container), query={"path": wanted})
    if target == "-":
        if os.isatty(STDOUT):
            raise CliError("cowardly refusing to copy to a terminal. Use a file or redirect")
        write_answer(response, None)
        return 0
    found = _stat(response.headers)
    place = _place_out(target, called or _base(path), bool(found["mode"] & _DIRECTORY), called)
    return _extract(response, _base(wanted), *place)


def _base(path: str) -> str:
    """The name that an archive's entries have: the last component, `.` and `/` as they are."""
    if path.rpartition("/")[2] == ".":
        return "."
    return os.path.basename(os.path.normpath("/" + path)) or "/"


def _place_out(target: str, name: str, is_folder: bool, called: str) -> tuple[str, str]:
    """The folder to extract into, and what the archive's top is called there.

    An empty name: as the archive calls it. Docker's rules (docker cp's reference). Raises CliError.
    """
    if os.path.isdir(target):
        return target, name if called else ""
    if os.path.lexists(target) and is_folder:
        raise CliError(_NOT_OVER_FILE)
    if target.endswith("/") and not is_folder:
        raise CliError(_NO_DIRECTORY)
    bare = os.path.realpath(target) if os.path.islink(target) else target.rstrip("/")
    folder = os.path.dirname(bare) or "."
    if not os.path.isdir(folder):
        raise CliError(f'invalid output path: directory "{os.path.abspath(folder)}" does not exist')
    return folder, os.path.basename(bare)


def _extract(response: Any, entry: str, folder: str, name: str) -> int:
    """Extract the answer in the folder; with a name its top is put there whole, or not at all."""
    import shutil

    if not name:
        return _untar(response, folder)
    fresh = os.path.join(folder, f".boxwood-cp-{os.getpid()}-{os.urandom(4).hex()}")
    remove_when_interrupted(lambda: shutil.rmtree(fresh, ignore_errors=True))
    os.mkdir(fresh, 0o700)
    try:
        size = _untar(response, fresh)
        top = fresh if entry in (".", "/") else os.path.join(fresh, entry)
        os.rename(top, os.path.join(folder, name))
    except OSError as error:
        raise CliError(f"copy: {os.path.join(folder, name)}: {error.strerror}") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return size


def _untar(response: Any, folder: str) -> int:
    """Extract beneath a folder by the compiled extractor: nothing else is ever written."""
    import threading

    from boxwood_ext import tar

    ring = tar.Ring()
    broken: list[BaseException] = []

    def feed() -> None:
        try:
            for piece in response.pieces():
                if not ring.put(bytes(piece)):
                    break
        except BaseException as error:  # noqa: BLE001 - raised again below
            broken.append(error)
        finally:
            ring.end()

    root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    before = os.umask(0)
    feeder = threading.Thread(target=feed, daemon=True)
    feeder.start()
    try:
        done = tar.extract(
            ring,
            root,
            whiteouts="plain",
            keep_kinds=True,
            chown=(os.geteuid(), os.getegid()),
            devices=os.geteuid() == 0,
        )
    except tar.TarError as error:
        ring.leave()
        feeder.join()
        raise broken[0] if broken else CliError(f"copy: {error}") from error
    finally:
        os.umask(before)
        os.close(root)
    feeder.join()
    if broken:
        raise broken[0]
    return done["bytes"]


# Into a container


def _copy_in(ctx: Context, values: Values, source: str, target: tuple[str, str]) -> int:
    container, path = target
    exists, is_folder, path = _target(ctx, container, path)
    if source == "-":
        if not is_folder:
            raise CliError(f'destination "{container}:{path}" must be a directory')
        _put(ctx, values, container, path, read_pieces(None))
        return 0
    directory, name, called = _source(source, follow=values["follow_link"])
    try:
        mode = os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode
        folder_in = stat.S_ISDIR(mode)
        if not (exists and is_folder):
            if exists and folder_in:
                raise CliError(_NOT_OVER_FILE)
            if not exists and path.endswith("/") and not folder_in:
                raise CliError(_NO_DIRECTORY)
            path, _, called = path.rstrip("/").rpartition("/")
            path = path or "/"
        with _Packed(directory, name, called) as packed:
            _put(ctx, values, container, path, packed.pieces())
            return packed.size
    finally:
        os.close(directory)


def _target(ctx: Context, container: str, path: str) -> tuple[bool, bool, str]:
    """Whether the path is there, whether it is a directory, and the path, its last link followed.

    What cannot be looked at may still be made: the copy itself says what is wrong.
    """
    path = path if path.startswith("/") else f"/{path}"
    exists = is_folder = False
    for _ in range(2):
        try:
            answer = ctx.client.request("HEAD", _route(container), query={"path": path})
        except ApiError:
            return False, False, path
        found = _stat(answer.headers)
        exists, is_folder = True, bool(found["mode"] & _DIRECTORY)
        if not found["mode"] & _LINK:
            break
        path = found["linkTarget"]
    return exists, is_folder, path


def _source(path: str, *, follow: bool) -> tuple[int, str, str]:
    """A descriptor of a folder, a name in it, and what the archive's top is called."""
    try:
        os.lstat(path)
        if os.path.basename(path) in ("", ".", ".."):
            called = "." if path.rpartition("/")[2] == "." else _base(os.path.abspath(path))
            return _open(path), ".", called
        real = os.path.realpath(path) if follow else path
        return _open(os.path.dirname(real) or "."), os.path.basename(real), os.path.basename(path)
    except OSError as error:
        text = (error.strerror or "").lower()
        raise CliError(f"lstat {os.path.abspath(path)}: {text}") from error


def _open(folder: str) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


class _Packed:
    """A tar of what a name is, made by a thread in compiled code as it is sent."""

    def __init__(self, directory: int, name: str, called: str) -> None:
        import threading

        self.size = 0
        self._error: BaseException | None = None
        self._what = (directory, name, called)
        self._read, self._write = os.pipe2(os.O_CLOEXEC)
        self._thread = threading.Thread(target=self._pack, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._read)
        self._thread.join()

    def _pack(self) -> None:
        from boxwood_ext import diff

        try:
            self.size = diff.pack(self._write, *self._what)["size"]
        except (diff.DiffError, OSError, ValueError) as error:
            self._error = error
        finally:
            os.close(self._write)

    def pieces(self) -> Any:
        """The tar's bytes. Raises CliError when something cannot be read: nothing is sent whole."""
        while piece := os.read(self._read, 1 << 20):
            yield piece
        self._thread.join()
        if self._error is not None:
            raise CliError(f"copy: {self._error}")


def _put(ctx: Context, values: Values, container: str, path: str, data: Any) -> None:
    query: Query = {
        "path": path,
        "noOverwriteDirNonDir": True,
        "copyUIDGID": True if values["archive"] else None,
    }
    ctx.client.request("PUT", _route(container), query=query, data=data).read()


COMMAND = Command(
    run,
    "Copy files/folders between a container and the local filesystem",
    "[OPTIONS] CONTAINER:SRC_PATH|SRC_PATH|- DEST_PATH|CONTAINER:DEST_PATH|-",
    (
        Flag("archive", "bool", "Give everything to the container's user", "a"),
        Flag("follow-link", "bool", "Follow a symbolic link that the source is", "L"),
        Flag("quiet", "bool", "Show no progress", "q"),
    ),
    least=2,
    most=2,
)
