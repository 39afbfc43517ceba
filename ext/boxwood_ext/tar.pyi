"""Extraction of tar archives beneath a directory, and deletion of trees.

The work is done by `ext/c/tar` without the GIL. Nothing outside of the given directory is ever
written, linked to or removed, whatever the archive holds; what does not fit into that is an error
that names the entry. After an error the tree is half made: the caller throws it away.
"""

from collections.abc import Sequence
from typing import Literal, TypedDict

class Extracted(TypedDict):
    entries: int
    bytes: int
    """Of file content written."""
    stream_bytes: int
    """Read from the descriptor, which is read to its end."""
    skipped: int
    """Entries left out: devices where asked, AUFS metadata (`.wh..wh.*`)."""
    skipped_xattrs: int
    """Extended attributes left out: overlay's own, SELinux labels, what the target cannot hold."""
    recorded: bool
    """Is what was written to `record_fd` complete?"""
    kept: int
    """Files whose content went there because they went again in the same archive."""
    lacked: bool
    """Was there no `parent_fd`, and did the layer ask for more of what is there than `implied`?"""
    implied: list[bytes]
    """Without `parent_fd`: the directories that no entry names, outer ones first. They are root's,
    0755, until `adopt` gives them what they have there."""

class TarError(Exception):
    """What is wrong with the archive, or what the kernel refused.

    `kind` is `malformed` (no tar, damaged), `hostile` (it asks for what it may not), `budget`
    (more or larger than allowed) or `system` (`errno` is set); `name` the entry's name.
    """

    kind: str
    name: str
    errno: int
    def __init__(self, kind: str, what: str, name: str, number: int) -> None: ...

class Ring:
    """A stream in memory, from one thread that puts pieces to `extract` in another.

    Bounded: `put` waits while twelve pieces are out, and lets the GIL go for it.
    """

    def put(self, piece: bytes) -> bool:
        """Hand over a piece, which is not copied. False: nobody takes any more."""

    def end(self) -> None:
        """Say that there is no more."""

    def leave(self) -> None:
        """Say that nobody takes any more, as `extract` does at its end: nothing waits then."""

def extract(
    source: int | Ring,
    root_fd: int,
    *,
    whiteouts: Literal["plain", "overlay", "aufs", "delete"],
    parent_fd: int = -1,
    record_fd: int = -1,
    follow_fd: int = -1,
    userxattr: bool = False,
    devices: bool = True,
    archive: bool = False,
    prefix: str | bytes = "",
    chown: tuple[int, int] | None = None,
    keep_kinds: bool = False,
    max_entries: int = ...,
    max_bytes: int = ...,
    max_name: int = ...,
) -> Extracted:
    """Extract the uncompressed tar read from `source` into the directory `root_fd`.

    `source` is a descriptor, or a ring. ustar, GNU (long names, sparse) and PAX (all of it that
    means something on Linux), names relative to the root whether they start with a slash or not.
    Parents that are symbolic links resolve inside the root.

    `whiteouts` says what `.wh.` names mean: nothing (`plain`), overlay's marks (`overlay`; under
    `user.overlay.` with `userxattr`), those of aufs (`aufs`), or deletion of what lower layers
    left there (`delete`). `devices=False` skips device nodes. `archive=True` takes files,
    directories and symbolic links only and gives them modes of our own: for archives of archives.
    With `prefix` all goes below that directory of the root (links resolve in the root all the
    same, those of the prefix too); `chown` is owner and group of everything, instead of the
    archive's; `keep_kinds` refuses (`hostile`) to replace a directory by something else and the
    reverse.

    `parent_fd` is the tree that the layer is for, when `root_fd` is a branch by itself: where the
    layer asks for it, directories that no entry names are as they are there, targets of hard
    links are copied from there, and an opaque root hides what is at its root.
    `record_fd` gets what the archive's bytes can be made of again beside the files
    (docs/layers.md, "Recipes"), uncompressed; that it fails is no error. `follow_fd`, a pipe, is
    told of each file of 64 KiB and more: that it begins, has grown (each 1 MiB), is whole; the
    records are in `ext/c/tar/follow.c`. The process's umask must be 0. Budgets: `max_entries`,
    `max_bytes` of file content, `max_name` bytes of a name and of a link's target.

    Raises TarError.
    """

def adopt(root_fd: int, parent_fd: int, paths: Sequence[bytes]) -> bool:
    """Give directories of a branch owner, mode, attributes and time that they have in another tree.

    `root_fd` and `paths` are the root and `implied` of an extraction without a parent, `parent_fd`
    is the tree that it was for. After True all is as if the parent had been given. False: it
    cannot be so, for what was made in one of them would have inherited from it (a group, an ACL).
    Every path is resolved beneath both roots. Raises TarError, ValueError (a NUL in a path).
    """

def write_erofs(
    source: int | Ring,
    image_fd: int,
    *,
    parent_fd: int = -1,
    userxattr: bool = False,
    devices: bool = True,
    max_entries: int = ...,
    max_bytes: int = ...,
    max_name: int = ...,
) -> Extracted:
    """Write the uncompressed tar read from `source` as an EROFS image to an empty file.

    The rest is as of `extract` with the whiteouts of `overlay`; memory grows with the entries, by
    some hundred bytes each, not with what they hold. After an error the file is worth nothing.
    """

def scan(in_fd: int, *, max_entries: int = ...) -> Extracted:
    """Read the archive as `extract` would and write nothing; raises TarError."""

def remove_tree(dir_fd: int, name: str | bytes) -> int:
    """Delete `name` in the directory `dir_fd`, whatever it is, and return how many files went.

    Links are not followed and other file systems not entered (OSError EXDEV). Nothing there is no
    error. Raises OSError, ValueError (not a plain name).
    """
