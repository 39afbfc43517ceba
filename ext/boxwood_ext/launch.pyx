# distutils: sources = ext/c/decode.c ext/c/paths.c ext/c/mounts.c ext/c/nodes.c ext/c/terminal.c ext/c/kernel.c ext/c/posture.c ext/c/payload.c ext/c/launch.c ext/c/spawn.c
"""The launch program's interpreter, for tests and tools, and the start of a shim."""

from libc.errno cimport EAGAIN, EINTR
from libc.stdint cimport uint32_t, int32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

import os as _os
import select as _select

cdef extern from "launch.h" nogil:
    const int BX_CONSOLE
    const int BXP_MAX_SLOTS
    cdef struct bx_report:
        uint32_t kind
        uint32_t index
        uint32_t code
        int32_t error
        char object[240]
    cdef struct bx_launch:
        const void *program
        size_t size
        const int *slots
        unsigned count
        int stdio[3]
        int death
        unsigned short rows
        unsigned short columns
    cdef struct bx_started:
        int pid
        int pidfd
        int report
    int bx_launch_begin(const bx_launch *launch, bx_started *out, bx_report *failure)
    int bx_launch_read(int report, bx_report *out, int *fd)
    int bx_program_check(const void *program, size_t size, unsigned slots)
    const char *bx_op_name(unsigned code)

cdef extern from "spawn.h" nogil:
    int bx_spawn(int exe, char **argv, char **envp, const int *fds, unsigned count, int *pidfd)


class LaunchFailed(OSError):
    """See launch.pyi."""

    def __init__(self, int number, str operation, str target, int index):
        super().__init__(number, f"{operation}: {target}: {_os.strerror(number)}")
        self.operation = operation
        self.target = target
        self.index = index


cdef object _failure(bx_report *report):
    return LaunchFailed(
        report.error,
        (<bytes>bx_op_name(report.code)).decode(),
        (<bytes>report.object).decode("utf-8", "surrogateescape"),
        report.index,
    )


cdef void *_aligned(bytes program) except NULL:
    """A copy on an address that malloc aligned (to 16 bytes); the caller frees it."""
    cdef void *copy = malloc(len(program) + 1)
    if copy == NULL:
        raise MemoryError
    memcpy(copy, <const char *>program, len(program))
    return copy


def check_program(bytes program, unsigned int slots=0):
    cdef void *copy = _aligned(program)
    cdef size_t size = len(program)
    cdef int status
    try:
        with nogil:
            status = bx_program_check(copy, size, slots)
    finally:
        free(copy)
    return status == 0


def begin_program(bytes program, fds=(), stdio=(-1, -1, -1)):
    cdef int slots[253]
    cdef bx_launch launch
    cdef bx_started started
    cdef bx_report failure
    cdef int status
    cdef Py_ssize_t i
    if len(fds) > BXP_MAX_SLOTS:
        raise ValueError(f"launch: {len(fds)} descriptors: more than {BXP_MAX_SLOTS}")
    for i in range(len(fds)):
        slots[i] = fds[i]
    cdef void *copy = _aligned(program)
    memset(&launch, 0, sizeof(launch))
    for i in range(3):
        launch.stdio[i] = stdio[i]
    launch.program = copy
    launch.size = len(program)
    launch.slots = slots
    launch.count = len(fds)
    try:
        with nogil:
            status = bx_launch_begin(&launch, &started, &failure)
    finally:
        free(copy)
    if status < 0:
        raise _failure(&failure)
    return started.pid, started.pidfd, started.report


def read_report(int report):
    cdef bx_report message
    cdef int fd
    cdef int status
    with nogil:
        status = bx_launch_read(report, &message, &fd)
    if status in (-EAGAIN, -EINTR):
        return None
    if status < 0:
        raise OSError(-status, f"launch: report: {_os.strerror(-status)}")
    if status == 0:
        return True
    if message.kind == <uint32_t>BX_CONSOLE:
        return fd
    raise _failure(&message)


def run_program(bytes program, fds=(), stdio=(-1, -1, -1), double timeout=30.0):
    pid, pidfd, report = begin_program(program, fds, stdio)
    console = None
    try:
        poll = _select.poll()
        poll.register(report, _select.POLLIN)
        while True:
            if not poll.poll(timeout * 1000):
                raise TimeoutError(f"launch: {pid}: nothing heard for {timeout} s")
            answer = read_report(report)
            if answer is True:
                return pid, pidfd, console
            if answer is not None:
                console = answer
    except BaseException:
        import signal
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        _os.waitid(_os.P_PIDFD, pidfd, _os.WEXITED)
        _os.close(pidfd)
        if console is not None:
            _os.close(console)
        raise
    finally:
        _os.close(report)


def spawn_shim(int executable, fds, args=(b"boxwood-shim",)):
    cdef int numbers[32]
    cdef char *argv[5]
    cdef char *envp[1]
    cdef int pid
    cdef int pidfd = -1
    cdef unsigned int count = len(fds)
    cdef Py_ssize_t i
    if count > 32:
        raise ValueError(f"spawn: {count} descriptors: more than 32")
    for i in range(count):
        numbers[i] = fds[i]
    args = tuple(args)
    if not 0 < len(args) < 5:
        raise ValueError(f"spawn: {len(args)} arguments: 1 to 4 are taken")
    for i in range(len(args)):
        argv[i] = args[i]
    argv[len(args)] = NULL
    envp[0] = NULL
    with nogil:
        pid = bx_spawn(executable, argv, envp, numbers, count, &pidfd)
    if pid < 0:
        raise OSError(-pid, f"spawn: {args[0].decode()}: {_os.strerror(-pid)}")
    return pid, pidfd
