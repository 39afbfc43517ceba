# distutils: sources = ext/c/userns.c
"""The mount system calls. See mount.pyi for what each does; the GIL is let go in all of them."""

from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport EINTR, errno
from libc.string cimport memset

import os as _os

cdef extern from "<unistd.h>" nogil:
    long syscall(long number, ...)

cdef extern from "<sys/syscall.h>":
    const long SYS_open_tree, SYS_move_mount, SYS_fsopen, SYS_fsconfig, SYS_fsmount
    const long SYS_mount_setattr, SYS_openat2, SYS_umount2, SYS_pivot_root, SYS_mount

cdef extern from *:
    """
    #include <sys/syscall.h>
    #ifndef SYS_quotactl_fd
    #define SYS_quotactl_fd 443  /* the same on every architecture */
    #endif
    """
    const long SYS_quotactl_fd

cdef extern from "userns.h" nogil:
    int bx_userns(const char *uid_map, const char *gid_map)

cdef extern from "<fcntl.h>":
    const int _AT_FDCWD "AT_FDCWD"

cdef struct open_how:
    unsigned long long flags
    unsigned long long mode
    unsigned long long resolve

cdef struct mount_attr:
    unsigned long long attr_set
    unsigned long long attr_clr
    unsigned long long propagation
    unsigned long long userns_fd

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000
AT_SYMLINK_NOFOLLOW = 0x100
OPEN_TREE_CLONE = 1
MOVE_MOUNT_F_EMPTY_PATH = 0x4
MOVE_MOUNT_T_EMPTY_PATH = 0x40
RESOLVE_NO_XDEV = 0x1
RESOLVE_NO_MAGICLINKS = 0x2
RESOLVE_NO_SYMLINKS = 0x4
RESOLVE_BENEATH = 0x8
RESOLVE_IN_ROOT = 0x10
MOUNT_ATTR_RDONLY = 0x1
MOUNT_ATTR_NOSUID = 0x2
MOUNT_ATTR_NODEV = 0x4
MOUNT_ATTR_NOEXEC = 0x8
MOUNT_ATTR_NOATIME = 0x10
MOUNT_ATTR_STRICTATIME = 0x20
MOUNT_ATTR_ATIME = 0x70
MOUNT_ATTR_NODIRATIME = 0x80
MOUNT_ATTR_IDMAP = 0x100000
MOUNT_ATTR_NOSYMFOLLOW = 0x200000
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20
MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8

cdef enum:
    _CLOEXEC = 0o2000000
    _SET_FLAG = 0
    _SET_STRING = 1
    _SET_PATH = 3
    _SET_FD = 5
    _CMD_CREATE = 6
    _CMD_RECONFIGURE = 7


cdef object _failed(str operation, object target, int number, str detail=""):
    """The one translator of errno. `target` may be str, bytes or an int."""
    if isinstance(target, bytes):
        target = _os.fsdecode(target)
    text = f"{operation}: {target}: {_os.strerror(number)}"
    if detail:
        text = f"{text} ({detail})"
    return OSError(number, text)


cdef str _log_of(int context):
    """What the kernel says of a mount context's failure: the first line of its log, or nothing."""
    try:
        return _os.read(context, 1024).decode("utf-8", "replace").strip()
    except OSError:
        return ""


def fsopen(fstype):
    cdef bytes name = _os.fsencode(fstype)
    cdef const char *c_name = name
    cdef long fd
    cdef int error
    with nogil:
        fd = syscall(SYS_fsopen, c_name, 1)
        error = errno
    if fd < 0:
        raise _failed("fsopen", name, error)
    return fd


cdef int _fsconfig(int fd, unsigned int command, bytes key, bytes value, int aux,
                   str operation) except -1:
    cdef const char *c_key = NULL
    cdef const char *c_value = NULL
    cdef long status
    cdef int error
    if key is not None:
        c_key = key
    if value is not None:
        c_value = value
    while True:
        with nogil:
            status = syscall(SYS_fsconfig, fd, command, c_key, c_value, aux)
            error = errno
        if status >= 0:
            return 0
        if error != EINTR:
            break
        PyErr_CheckSignals()
    target = b"" if key is None else key if value is None else key + b"=" + value
    raise _failed(operation, target, error, _log_of(fd))


def fsconfig_string(int fd, key, value):
    _fsconfig(fd, _SET_STRING, _os.fsencode(key), _os.fsencode(value), 0, "fsconfig string")


def fsconfig_flag(int fd, key):
    _fsconfig(fd, _SET_FLAG, _os.fsencode(key), None, 0, "fsconfig flag")


def fsconfig_path(int fd, key, path, int dir_fd=_AT_FDCWD):
    _fsconfig(fd, _SET_PATH, _os.fsencode(key), _os.fsencode(path), dir_fd, "fsconfig path")


def fsconfig_fd(int fd, key, int value):
    _fsconfig(fd, _SET_FD, _os.fsencode(key), None, value, "fsconfig fd")


def fsconfig_create(int fd):
    _fsconfig(fd, _CMD_CREATE, None, None, 0, "fsconfig create")


def fsconfig_reconfigure(int fd):
    _fsconfig(fd, _CMD_RECONFIGURE, None, None, 0, "fsconfig reconfigure")


def fsmount(int fd, unsigned int attributes=0):
    cdef long mount_fd
    cdef int error
    with nogil:
        mount_fd = syscall(SYS_fsmount, fd, 1, attributes)
        error = errno
    if mount_fd < 0:
        raise _failed("fsmount", fd, error, _log_of(fd))
    return mount_fd


def open_tree(int dir_fd, path, unsigned int flags=0):
    cdef bytes name = _os.fsencode(path)
    cdef const char *c_name = name
    cdef long fd
    cdef int error
    with nogil:
        fd = syscall(SYS_open_tree, dir_fd, c_name, flags | _CLOEXEC)
        error = errno
    if fd < 0:
        raise _failed("open_tree", name, error)
    return fd


def move_mount(int from_fd, from_path, int to_fd, to_path, unsigned int flags=0):
    cdef bytes source = _os.fsencode(from_path)
    cdef bytes target = _os.fsencode(to_path)
    cdef const char *c_source = source
    cdef const char *c_target = target
    cdef long status
    cdef int error
    with nogil:
        status = syscall(SYS_move_mount, from_fd, c_source, to_fd, c_target, flags)
        error = errno
    if status < 0:
        raise _failed("move_mount", target, error)


def mount_setattr(int dir_fd, path, unsigned int flags=0, *, unsigned long long attr_set=0,
                  unsigned long long attr_clear=0, unsigned long long propagation=0,
                  int userns_fd=-1):
    cdef bytes name = _os.fsencode(path)
    cdef const char *c_name = name
    cdef mount_attr attr
    cdef long status
    cdef int error
    memset(&attr, 0, sizeof(attr))
    attr.attr_set = attr_set
    attr.attr_clr = attr_clear
    attr.propagation = propagation
    if userns_fd >= 0:
        attr.userns_fd = <unsigned long long>userns_fd
    with nogil:
        status = syscall(SYS_mount_setattr, dir_fd, c_name, flags, &attr, sizeof(attr))
        error = errno
    if status < 0:
        raise _failed("mount_setattr", name, error)


def openat2(int dir_fd, path, unsigned long long flags, unsigned long long mode=0,
            unsigned long long resolve=0):
    cdef bytes name = _os.fsencode(path)
    cdef const char *c_name = name
    cdef open_how how
    cdef long fd
    cdef int error
    how.flags = flags | _CLOEXEC
    how.mode = mode
    how.resolve = resolve
    while True:
        with nogil:
            fd = syscall(SYS_openat2, dir_fd, c_name, &how, sizeof(how))
            error = errno
        if fd >= 0:
            return fd
        if error != EINTR:
            break
        PyErr_CheckSignals()
    raise _failed("openat2", name, error)


def mount(source, target, fstype, unsigned long flags=0, data=""):
    cdef bytes b_source = _os.fsencode(source)
    cdef bytes b_target = _os.fsencode(target)
    cdef bytes b_type = _os.fsencode(fstype)
    cdef bytes b_data = _os.fsencode(data)
    cdef const char *c_source = b_source
    cdef const char *c_target = b_target
    cdef const char *c_type = b_type
    cdef const char *c_data = b_data
    cdef long status
    cdef int error
    with nogil:
        status = syscall(SYS_mount, c_source, c_target, c_type, flags, c_data)
        error = errno
    if status < 0:
        raise _failed("mount", b_target, error)


def umount2(path, int flags=0):
    cdef bytes name = _os.fsencode(path)
    cdef const char *c_name = name
    cdef long status
    cdef int error
    with nogil:
        status = syscall(SYS_umount2, c_name, flags)
        error = errno
    if status < 0:
        raise _failed("umount2", name, error)


def pivot_root(new_root, put_old):
    cdef bytes b_new = _os.fsencode(new_root)
    cdef bytes b_old = _os.fsencode(put_old)
    cdef const char *c_new = b_new
    cdef const char *c_old = b_old
    cdef long status
    cdef int error
    with nogil:
        status = syscall(SYS_pivot_root, c_new, c_old)
        error = errno
    if status < 0:
        raise _failed("pivot_root", b_new, error)


def user_namespace(str uid_map, str gid_map):
    cdef bytes uids = uid_map.encode("ascii")
    cdef bytes gids = gid_map.encode("ascii")
    cdef const char *c_uids = uids
    cdef const char *c_gids = gids
    cdef int fd
    with nogil:
        fd = bx_userns(c_uids, c_gids)
    if fd < 0:
        raise _failed("make user namespace", uid_map.strip(), -fd)
    return fd


def quotactl_fd(int fd, unsigned int command, unsigned int project, unsigned char[::1] data):
    cdef long status
    cdef int error
    cdef void *address = &data[0]
    with nogil:
        status = syscall(SYS_quotactl_fd, fd, command, project, address)
        error = errno
    if status < 0:
        raise _failed("quotactl", fd, error)
