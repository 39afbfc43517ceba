# distutils: sources = ext/c/diff/diff.c ext/c/diff/names.c ext/c/diff/xattrs.c ext/c/diff/emit.c ext/c/diff/scout.c ext/c/diff/copied.c ext/c/tar/outlet.c ext/c/tar/writer.c
# distutils: depends = ext/c/diff/bw_diff.h ext/c/diff/internal.h ext/c/tar/bw_writer.h ext/c/tar/outlet.h
"""Changes between two file trees: as a layer's tar, or as a list. See the stub."""

import os

from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport free


cdef extern from "diff/bw_diff.h" nogil:
    enum bw_diff_form:
        BW_DIFF_TREE
        BW_DIFF_OVERLAY
        BW_DIFF_AUFS

    enum bw_diff_kind:
        BW_DIFF_OK
        BW_DIFF_SYSTEM
        BW_DIFF_UNSUPPORTED
        BW_DIFF_LIMIT

    struct bw_copied:
        pass

    struct bw_diff_options:
        int sink_fd
        int new_fd
        int old_fd
        bw_diff_form form
        int looks
        int listing
        int content
        const bw_copied *copied
        size_t copied_count

    struct bw_diff_result:
        uint64_t entries
        uint64_t size
        uint64_t compared
        uint64_t skipped
        uint64_t cut
        bw_diff_kind kind
        int errnum
        const char *what
        char *name

    int bw_diff(const bw_diff_options *options, bw_diff_result *result)
    int bw_diff_record(
        int new_fd, int old_fd, int64_t before, bw_copied **slots, size_t *count,
        bw_diff_result *result
    )
    int bw_diff_pack(
        int dir_fd, const char *name, const char *as_, int sink_fd, bw_diff_result *result
    )


class DiffError(Exception):
    def __init__(self, kind, what, name, number):
        cause = f"{what}: {os.strerror(number)}" if number else what
        super().__init__(f"{name!r}: {cause}")
        self.kind = kind
        self.name = name
        self.errno = number


_KINDS = {
    BW_DIFF_SYSTEM: "system",
    BW_DIFF_UNSUPPORTED: "unsupported",
    BW_DIFF_LIMIT: "limit",
}


cdef _answer(int status, const bw_diff_result *result):
    if status < 0:
        raise DiffError(
            _KINDS.get(result.kind, "system"),
            (<bytes>result.what).decode("ascii"),
            os.fsdecode(<bytes>result.name),
            result.errnum,
        )
    return {
        "entries": result.entries,
        "size": result.size,
        "compared": result.compared,
        "skipped": result.skipped,
        "cut": result.cut,
    }


cdef bw_diff_form _form(str name) except *:
    if name == "tree":
        return BW_DIFF_TREE
    if name == "overlay":
        return BW_DIFF_OVERLAY
    if name == "aufs":
        return BW_DIFF_AUFS
    raise ValueError(f"form: {name!r}")


def diff(int sink_fd, int new_fd, int old_fd=-1, *, str form="tree", bint listing=False,
         bint content=False, bint looks=False, bytes copied=b""):
    cdef bw_diff_options options
    cdef bw_diff_result result
    cdef int status
    cdef const char *slots = copied
    if len(copied) % sizeof(bw_copied):
        raise ValueError("diff: not the record of a copy")
    options.copied = <const bw_copied *><const void *>slots
    options.copied_count = len(copied) // sizeof(bw_copied)
    options.sink_fd = sink_fd
    options.new_fd = new_fd
    options.old_fd = old_fd
    options.form = _form(form)
    options.looks = looks
    options.listing = listing
    options.content = content
    with nogil:
        status = bw_diff(&options, &result)
    return _answer(status, &result)


def compare(int new_fd, int old_fd, *, bint content=False):
    sink = os.memfd_create("boxwood-compare", os.MFD_CLOEXEC)
    try:
        size = diff(sink, new_fd, old_fd, listing=True, content=content)["size"]
        with open(sink, "rb", closefd=False) as file:
            file.seek(0)
            records = file.read(size).split(b"\0")
    finally:
        os.close(sink)
    return [(chr(record[0]), os.fsdecode(record[2:])) for record in records[:-1]]


def record(int new_fd, int old_fd, int64_t before):
    cdef bw_copied *slots = NULL
    cdef size_t count
    cdef bw_diff_result result
    cdef int status
    with nogil:
        status = bw_diff_record(new_fd, old_fd, before, &slots, &count, &result)
    try:
        _answer(status, &result)
        return b"" if slots is NULL else (<const char *>slots)[: count * sizeof(bw_copied)]
    finally:
        free(slots)


def pack(int sink_fd, int dir_fd, name, arcname):
    cdef bytes raw = os.fsencode(name)
    cdef bytes called = os.fsencode(arcname)
    cdef const char *text = raw
    cdef const char *label = called
    cdef bw_diff_result result
    cdef int status
    if not raw or b"/" in raw or b"\0" in raw + called or raw == b"..":
        raise ValueError(f"pack: {name!r}: not a name")
    with nogil:
        status = bw_diff_pack(dir_fd, text, label, sink_fd, &result)
    return _answer(status, &result)
