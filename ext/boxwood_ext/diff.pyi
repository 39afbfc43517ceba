"""Changes between two file trees: as a layer's tar, or as a list.

The work is done by `ext/c/diff` without the GIL. Directories are descriptors that can be listed
(not O_PATH); nothing outside of them is looked at, and nothing but regular files is ever opened.
"""

from typing import Literal, TypedDict

class Written(TypedDict):
    entries: int
    size: int
    """Bytes written to the sink."""
    compared: int
    """Entries that were looked at."""
    skipped: int
    """Sockets, and names beginning with `.wh.`, which would mean something else in a layer."""
    cut: int
    """Files that became shorter while they were read: zeros take the place of what is missing."""

class DiffError(Exception):
    """What went wrong, and at which entry.

    `kind` is `system` (`errno` is set), `unsupported` (a branch written with redirect_dir or
    metacopy) or `limit` (names or attributes larger than a tar holds).
    """

    kind: str
    name: str
    errno: int
    def __init__(self, kind: str, what: str, name: str, number: int) -> None: ...

def diff(
    sink_fd: int,
    new_fd: int,
    old_fd: int = -1,
    *,
    form: Literal["tree", "overlay", "aufs"] = "tree",
    listing: bool = False,
    content: bool = False,
    looks: bool = False,
    copied: bytes = b"",
) -> Written:
    """Write what makes `old_fd`'s tree (-1: an empty one) to `new_fd`'s.

    An entry has changed when its type, mode, owner, device numbers or shipped attributes (`user.*`
    and `security.capability`) differ, or, for what is no directory, its size, modification time
    (whole seconds where one of the two has no fraction) or link target. Directories above a change
    are written too. `form` says what `new_fd` is: a whole `tree`, or a branch in the form of
    `overlay` or `aufs` that holds only what has changed; a file of a branch that looks as it did
    is compared byte by byte, with `content` one of a tree, too. The same change gives the same
    bytes in all three forms.

    `listing` writes records `K/path` that end in NUL, K being A (added), C (changed) or D
    (deleted), instead of a tar. `looks` leaves attributes out of it: trees are then compared by
    what `rsync -a` goes by. `copied` is what :func:`record` returned when `new_fd`'s tree had
    just been copied from `old_fd`'s: what is known by it is not compared, and half as much is asked
    of the file system. Raises DiffError; ValueError: `copied` is no such thing.
    """

def record(new_fd: int, old_fd: int, before: int) -> bytes:
    """Return what of a tree that was just copied will prove later that it has not changed since.

    `new_fd` is the copy, complete, and nobody writes to it yet; `old_fd` is what was copied.
    `before` is a time in nanoseconds that their file system gave (`st_ctime_ns`) after the copy was
    whole: the clock may be coarse, so what was made at that very moment is not recorded. Empty
    where the file system's times prove nothing: on all but ext4, tmpfs, XFS and Btrfs. 36 bytes for
    each inode; the form is this machine's. Raises DiffError.
    """

def compare(new_fd: int, old_fd: int, *, content: bool = False) -> list[tuple[str, str]]:
    """Return what differs between two trees: pairs of a letter and a path beneath the roots.

    The letters are those of `diff`'s listing, sorted as there: a directory above a change is `C`,
    what lies below a deleted one is not named. The roots themselves and which names are one file
    (hard links) are not compared. `content` compares files byte by byte where all else is the same.
    Raises DiffError.
    """

def pack(sink_fd: int, dir_fd: int, name: str | bytes, arcname: str | bytes) -> Written:
    """Write `name` in the directory `dir_fd` (`.`: itself) and all below it as a tar.

    Entries are called `arcname` and `arcname/...`; with an empty one the top itself is left out.
    `name` is one component and no link is followed. Raises DiffError, ValueError.
    """
