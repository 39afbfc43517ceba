# distutils: sources = ext/c/tar/reader.c ext/c/tar/pax.c ext/c/tar/path.c ext/c/tar/place.c ext/c/tar/whiteout.c ext/c/tar/remove.c ext/c/tar/extract.c ext/c/tar/attributes.c ext/c/tar/below.c ext/c/tar/record.c ext/c/tar/follow.c ext/c/tar/ring.c ext/c/erofs/tree.c ext/c/erofs/attributes.c ext/c/erofs/resolve.c ext/c/erofs/below.c ext/c/erofs/layer.c ext/c/erofs/image.c
# distutils: depends = ext/c/erofs/bw_erofs.h ext/c/erofs/internal.h ext/c/tar/bw_tar.h ext/c/tar/internal.h ext/c/tar/ring.h
"""Extraction of tar archives beneath a directory, and deletion of trees. See the stub."""

import os

from libc.errno cimport errno
from libc.stdint cimport uint32_t, uint64_t


cdef extern from "tar/ring.h" nogil:
    enum:
        BW_RING_SLOTS

    struct bw_ring:
        pass

    void bw_ring_open(bw_ring *ring)
    void bw_ring_close(bw_ring *ring)
    int bw_ring_put(bw_ring *ring, const void *data, size_t length)
    void bw_ring_end(bw_ring *ring)
    void bw_ring_leave(bw_ring *ring)


cdef extern from "tar/bw_tar.h" nogil:
    enum bw_tar_kind:
        BW_TAR_OK
        BW_TAR_MALFORMED
        BW_TAR_HOSTILE
        BW_TAR_BUDGET
        BW_TAR_SYSTEM

    enum bw_tar_whiteouts:
        BW_WHITEOUTS_PLAIN
        BW_WHITEOUTS_OVERLAY
        BW_WHITEOUTS_AUFS
        BW_WHITEOUTS_DELETE

    enum bw_tar_flags:
        BW_TAR_USERXATTR
        BW_TAR_NO_DEVICES
        BW_TAR_ARCHIVE
        BW_TAR_CHOWN
        BW_TAR_KEEP_KINDS

    struct bw_tar_options:
        int in_fd
        bw_ring *ring
        int root_fd
        int parent_fd
        int record_fd
        int follow_fd
        bw_tar_whiteouts whiteouts
        uint32_t flags
        uint32_t uid
        uint32_t gid
        const char *prefix
        uint64_t max_entries
        uint64_t max_bytes
        uint32_t max_name
        char *implied
        size_t implied_room

    struct bw_tar_result:
        uint64_t entries
        uint64_t bytes
        uint64_t stream_bytes
        uint64_t skipped
        uint64_t skipped_xattrs
        uint32_t recorded
        uint32_t kept
        uint32_t lacked
        size_t implied_size
        bw_tar_kind kind
        int errnum
        const char *what
        char *name

    int bw_tar_extract(const bw_tar_options *options, bw_tar_result *result)
    int bw_tar_scan(const bw_tar_options *options, bw_tar_result *result)
    int bw_tar_adopt(
        int root_fd, int parent_fd, const char *paths, size_t size, bw_tar_result *result
    )
    int bw_remove_tree(int dir_fd, const char *name, uint64_t *removed)


cdef extern from "erofs/bw_erofs.h" nogil:
    int bw_erofs_layer(const bw_tar_options *options, int image_fd, bw_tar_result *result)


class TarError(Exception):
    def __init__(self, kind, what, name, number):
        cause = f"{what}: {os.strerror(number)}" if number else what
        super().__init__(f"{name!r}: {cause}")
        self.kind = kind
        self.name = name
        self.errno = number


_KINDS = {
    BW_TAR_MALFORMED: "malformed",
    BW_TAR_HOSTILE: "hostile",
    BW_TAR_BUDGET: "budget",
    BW_TAR_SYSTEM: "system",
}


cdef _answer(int status, const bw_tar_result *result):
    if status < 0:
        raise TarError(
            _KINDS.get(result.kind, "system"),
            (<bytes>result.what).decode("ascii"),
            os.fsdecode(<bytes>result.name),
            result.errnum,
        )
    return {
        "entries": result.entries,
        "bytes": result.bytes,
        "stream_bytes": result.stream_bytes,
        "skipped": result.skipped,
        "skipped_xattrs": result.skipped_xattrs,
        "recorded": bool(result.recorded),
        "kept": result.kept,
        "lacked": bool(result.lacked),
    }


cdef enum:
    # Bytes of the paths of directories that no entry names: what a worker's answer has room for.
    IMPLIED_ROOM = 32 << 10


cdef bw_tar_whiteouts _whiteouts(str name) except *:
    if name == "overlay":
        return BW_WHITEOUTS_OVERLAY
    if name == "aufs":
        return BW_WHITEOUTS_AUFS
    if name == "delete":
        return BW_WHITEOUTS_DELETE
    if name == "plain":
        return BW_WHITEOUTS_PLAIN
    raise ValueError(f"whiteouts: {name!r}")


cdef class Ring:
    cdef bw_ring ring
    cdef list kept

    def __cinit__(self):
        bw_ring_open(&self.ring)
        self.kept = [None] * BW_RING_SLOTS

    def __dealloc__(self):
        bw_ring_close(&self.ring)

    def put(self, bytes piece not None):
        cdef const char *data = piece
        cdef size_t length = len(piece)
        cdef int slot
        if length == 0:
            return True
        with nogil:
            slot = bw_ring_put(&self.ring, data, length)
        if slot < 0:
            return False
        # Only now is what was kept in this slot out of use.
        self.kept[slot] = piece
        return True

    def end(self):
        bw_ring_end(&self.ring)

    def leave(self):
        bw_ring_leave(&self.ring)


def extract(
    source,
    int root_fd,
    *,
    str whiteouts,
    int parent_fd=-1,
    int record_fd=-1,
    int follow_fd=-1,
    bint userxattr=False,
    bint devices=True,
    bint archive=False,
    prefix="",
    chown=None,
    bint keep_kinds=False,
    uint64_t max_entries=1 << 22,
    uint64_t max_bytes=1 << 62,
    uint32_t max_name=4095,
):
    cdef bw_tar_options options
    cdef bw_tar_result result
    cdef char implied[IMPLIED_ROOM]
    cdef int status
    cdef bytes raw_prefix = os.fsencode(prefix)
    cdef Ring ring = source if isinstance(source, Ring) else None
    options.in_fd = -1 if ring is not None else source
    options.ring = &ring.ring if ring is not None else NULL
    options.root_fd = root_fd
    options.parent_fd = parent_fd
    options.record_fd = record_fd
    options.follow_fd = follow_fd
    options.max_name = max_name
    options.whiteouts = _whiteouts(whiteouts)
    options.flags = (
        (BW_TAR_USERXATTR if userxattr else 0)
        | (0 if devices else BW_TAR_NO_DEVICES)
        | (BW_TAR_ARCHIVE if archive else 0)
        | (BW_TAR_KEEP_KINDS if keep_kinds else 0)
        | (BW_TAR_CHOWN if chown is not None else 0)
    )
    options.uid, options.gid = chown if chown is not None else (0, 0)
    options.prefix = <const char *>raw_prefix if raw_prefix else NULL
    options.max_entries = max_entries
    options.max_bytes = max_bytes
    options.implied, options.implied_room = implied, IMPLIED_ROOM
    with nogil:
        status = bw_tar_extract(&options, &result)
        if options.ring != NULL:
            bw_ring_leave(options.ring)
    answer = _answer(status, &result)
    answer["implied"] = (<bytes>implied[:result.implied_size]).split(b"\0")[:-1]
    return answer


def adopt(int root_fd, int parent_fd, paths):
    cdef bw_tar_result result
    cdef bytes joined = b"".join(path + b"\0" for path in paths)
    if any(b"\0" in path for path in paths):
        raise ValueError("adopt: a path with a NUL")
    cdef const char *text = joined
    cdef size_t size = len(joined)
    cdef int status
    with nogil:
        status = bw_tar_adopt(root_fd, parent_fd, text, size, &result)
    _answer(status, &result)
    return status == 1


def write_erofs(
    source,
    int image_fd,
    *,
    int parent_fd=-1,
    bint userxattr=False,
    bint devices=True,
    uint64_t max_entries=1 << 22,
    uint64_t max_bytes=1 << 62,
    uint32_t max_name=4095,
):
    cdef bw_tar_options options
    cdef bw_tar_result result
    cdef int status
    cdef Ring ring = source if isinstance(source, Ring) else None
    options.in_fd = -1 if ring is not None else source
    options.ring = &ring.ring if ring is not None else NULL
    options.root_fd = options.record_fd = options.follow_fd = -1
    options.parent_fd = parent_fd
    options.whiteouts = BW_WHITEOUTS_OVERLAY
    options.flags = (BW_TAR_USERXATTR if userxattr else 0) | (0 if devices else BW_TAR_NO_DEVICES)
    options.prefix = NULL
    options.max_entries = max_entries
    options.max_bytes = max_bytes
    options.max_name = max_name
    options.implied, options.implied_room = NULL, 0
    with nogil:
        status = bw_erofs_layer(&options, image_fd, &result)
        if options.ring != NULL:
            bw_ring_leave(options.ring)
    return _answer(status, &result)


def scan(int in_fd, *, uint64_t max_entries=1 << 22):
    cdef bw_tar_options options
    cdef bw_tar_result result
    cdef int status
    options.in_fd = in_fd
    options.ring = NULL
    options.root_fd = options.parent_fd = options.record_fd = options.follow_fd = -1
    options.max_name = 4095
    options.whiteouts = BW_WHITEOUTS_PLAIN
    options.flags = 0
    options.prefix = NULL
    options.implied, options.implied_room = NULL, 0
    options.max_entries = max_entries
    options.max_bytes = 0
    with nogil:
        status = bw_tar_scan(&options, &result)
    return _answer(status, &result)


def remove_tree(int dir_fd, name):
    cdef bytes raw = os.fsencode(name)
    cdef const char *text = raw
    cdef uint64_t removed = 0
    cdef int status, number
    if not raw or b"/" in raw or b"\0" in raw or raw in (b".", b".."):
        raise ValueError(f"remove_tree: {name!r}: not a name")
    with nogil:
        status = bw_remove_tree(dir_fd, text, &removed)
        number = errno
    if status < 0:
        raise OSError(number, os.strerror(number), os.fsdecode(raw))
    return removed
