"""Network namespaces and rtnetlink. See net.pyi for what each does."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.errno cimport EAGAIN, EINTR, EINVAL, EPROTO, ETIMEDOUT, errno
from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t
from libc.stdlib cimport abort
from libc.string cimport memcpy, memset

import os as _os

cdef extern from "<unistd.h>" nogil:
    int close(int fd)
    ssize_t write(int fd, const void *data, size_t size)

cdef extern from "<fcntl.h>" nogil:
    int open(const char *path, int flags)
    const int O_RDONLY, O_WRONLY, O_CLOEXEC

cdef extern from "<sched.h>" nogil:
    int setns(int fd, int kind)
    int unshare(int flags)
    const int CLONE_NEWNET

cdef extern from "<sys/ioctl.h>" nogil:
    int ioctl(int fd, unsigned long request, ...)

cdef extern from "<sys/time.h>" nogil:
    struct timeval:
        long tv_sec

cdef extern from "<sys/socket.h>" nogil:
    int socket(int family, int kind, int protocol)
    ssize_t send(int fd, const void *data, size_t size, int flags)
    ssize_t recv(int fd, void *data, size_t size, int flags)
    int setsockopt(int fd, int level, int name, const void *value, unsigned int size)
    const int AF_INET, AF_NETLINK, SOCK_DGRAM, SOCK_RAW, SOCK_CLOEXEC, SOL_SOCKET, SO_RCVTIMEO
    const int SO_RCVBUF, MSG_TRUNC

cdef extern from "<net/if.h>" nogil:
    struct ifreq:
        char ifr_name[16]
        short ifr_flags
        int ifr_ifindex
    const int IFF_UP, IFNAMSIZ, SIOCGIFFLAGS, SIOCSIFFLAGS, SIOCGIFINDEX

cdef extern from "<linux/netlink.h>" nogil:
    struct nlmsghdr:
        uint32_t nlmsg_len
        uint16_t nlmsg_type
        uint16_t nlmsg_flags
        uint32_t nlmsg_seq
        uint32_t nlmsg_pid
    const int NETLINK_ROUTE, NLMSG_ERROR, NLMSG_DONE, SOL_NETLINK, NETLINK_CAP_ACK, NETLINK_EXT_ACK
    const int NETLINK_GET_STRICT_CHK
    const int NLM_F_REQUEST, NLM_F_ACK, NLM_F_MULTI, NLM_F_DUMP, NLM_F_ACK_TLVS, NLM_F_DUMP_INTR
    const int NLMSGERR_ATTR_MSG

cdef enum:
    _HEADER = 16          # of a netlink message
    _ANSWER = 1 << 16     # bytes of one read: what the kernel puts into one part of a dump, twice
    _AT_ONCE = 64         # messages of one send: their acknowledgements fit the receive buffer
    _WAIT_SECONDS = 30    # rtnetlink answers before send() returns; longer is a broken kernel
    _DUMPS = 10           # tries of a dump that others change meanwhile


cdef object _failed(str operation, object target, int number):
    """The one translator of errno."""
    return OSError(number, f"{operation}: {target}: {_os.strerror(number)}")


class NetlinkError(OSError):
    """A message was refused. The attributes are described in net.pyi."""

    def __init__(self, int number, str detail, Py_ssize_t index):
        text = _os.strerror(number)
        super().__init__(number, f"netlink: message {index}: {text}" + ((f" ({detail})" if detail else "")))
        self.index = index
        self.detail = detail

    def __reduce__(self):
        return NetlinkError, (self.errno, self.detail, self.index)


# What happens in another namespace happens between these two, on one thread, without the GIL
# (but for call_in). A thread that cannot come home would do the daemon's work in a container's
# network: the process ends instead.

cdef int _enter(int netns, int *home) noexcept nogil:
    cdef int number
    home[0] = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC)
    if home[0] < 0:
        return -errno
    if setns(netns, CLONE_NEWNET) < 0:
        number = errno
        close(home[0])
        return -number
    return 0


cdef void _leave(int home) noexcept nogil:
    if setns(home, CLONE_NEWNET) < 0:
        abort()
    close(home)


cdef int _loopback_up() noexcept nogil:
    cdef ifreq request
    cdef int number = 0
    cdef int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)
    if fd < 0:
        return -errno
    memset(&request, 0, sizeof(request))
    memcpy(request.ifr_name, b"lo", 2)
    if ioctl(fd, SIOCGIFFLAGS, &request) < 0:
        number = -errno
    else:
        request.ifr_flags |= IFF_UP
        if ioctl(fd, SIOCSIFFLAGS, &request) < 0:
            number = -errno
    close(fd)
    return number


cdef int _make() noexcept nogil:
    cdef int home, made, number
    home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC)
    if home < 0:
        return -errno
    if unshare(CLONE_NEWNET) < 0:
        number = errno
        close(home)
        return -number
    made = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC)
    if made < 0:
        made = -errno
    else:
        number = _loopback_up()
        if number < 0:
            close(made)
            made = number
    _leave(home)
    return made


def make_namespace():
    cdef int fd
    with nogil:
        fd = _make()
    if fd < 0:
        raise _failed("make network namespace", "unshare", -fd)
    return fd


def socket_in(int netns, int family, int kind, int protocol=0):
    cdef int home = -1
    cdef int fd, status
    with nogil:
        status = _enter(netns, &home)
        fd = status
        if status == 0:
            fd = socket(family, kind | SOCK_CLOEXEC, protocol)
            if fd < 0:
                fd = -errno
            _leave(home)
    if status < 0:
        raise _failed("enter network namespace", netns, -status)
    if fd < 0:
        raise _failed("open socket in namespace", f"family {family}", -fd)
    return fd


cdef int _write_whole(const char *path, const char *value, size_t size) noexcept nogil:
    cdef int number = 0
    cdef int fd = open(path, O_WRONLY | O_CLOEXEC)
    if fd < 0:
        return -errno
    if write(fd, value, size) < 0:
        number = -errno
    close(fd)
    return number


def sysctls_in(int netns, settings):
    cdef list pairs = []
    cdef const char *paths[32]
    cdef const char *values[32]
    cdef size_t sizes[32]
    cdef int home = -1
    cdef int status, count, number = 0
    cdef int done = 0
    for key, value in settings:
        if "\0" in key or ".." in key or key.startswith("/"):
            raise _failed("set sysctl", key, EINVAL)
        pairs.append((f"/proc/sys/net/{key}".encode(), value.encode()))
    if len(pairs) > 32:
        raise ValueError("more than 32 sysctls at once")
    count = <int>len(pairs)
    for i in range(count):
        paths[i] = <bytes>pairs[i][0]
        values[i] = <bytes>pairs[i][1]
        sizes[i] = len(<bytes>pairs[i][1])
    with nogil:
        status = _enter(netns, &home)
        if status == 0:
            while done < count:
                number = _write_whole(paths[done], values[done], sizes[done])
                if number < 0:
                    break
                done += 1
            _leave(home)
    if status < 0:
        raise _failed("enter network namespace", netns, -status)
    if number < 0:
        raise _failed("set sysctl", (<bytes>pairs[done][0]).decode(), -number)


def call_in(int netns, function, *args):
    cdef int home = -1
    cdef int status = _enter(netns, &home)
    if status < 0:
        raise _failed("enter network namespace", netns, -status)
    try:
        return function(*args)
    finally:
        _leave(home)


cdef str _words_of(const uint8_t *message, uint32_t size):
    """What the kernel says of a refusal beside errno (NLMSGERR_ATTR_MSG), or nothing."""
    cdef const nlmsghdr *header = <const nlmsghdr *>message
    cdef uint32_t at = 36  # header, errno, the refused message's header: NETLINK_CAP_ACK
    cdef uint16_t length, kind
    if not header.nlmsg_flags & NLM_F_ACK_TLVS:
        return ""
    while at + 4 <= size:
        memcpy(&length, message + at, 2)
        memcpy(&kind, message + at + 2, 2)
        if length < 4 or length > size - at:
            break
        if kind & 0x3FFF == NLMSGERR_ATTR_MSG:
            words = (<const char *>(message + at + 4))[:length - 4]
            return words.rstrip(b"\0").decode("utf-8", "replace")
        at += (length + 3) & ~3
    return ""


cdef class Netlink:
    cdef int _fd
    cdef uint32_t _sequence

    def __cinit__(self):
        self._fd = -1
        self._sequence = 0

    def __init__(self, int netns=-1):
        cdef int one = 1
        cdef int buffer = 1 << 20
        cdef timeval wait
        if netns < 0:
            self._fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE)
            if self._fd < 0:
                raise _failed("open socket", "netlink", errno)
        else:
            self._fd = socket_in(netns, AF_NETLINK, SOCK_RAW, NETLINK_ROUTE)
        memset(&wait, 0, sizeof(wait))
        wait.tv_sec = _WAIT_SECONDS
        setsockopt(self._fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait))
        setsockopt(self._fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof(buffer))
        setsockopt(self._fd, SOL_NETLINK, NETLINK_CAP_ACK, &one, sizeof(one))
        setsockopt(self._fd, SOL_NETLINK, NETLINK_EXT_ACK, &one, sizeof(one))
        # A dump honours what it is asked for (the index of a link).
        setsockopt(self._fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, &one, sizeof(one))

    def __dealloc__(self):
        self.close()

    cpdef close(self):
        if self._fd >= 0:
            close(self._fd)
            self._fd = -1

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def fileno(self):
        return self._fd

    cdef bytearray _numbered(self, list messages, int flags):
        """One buffer of all messages, each with its length, flags and sequence number."""
        cdef bytearray whole = bytearray()
        cdef nlmsghdr header
        cdef bytes message
        cdef const char *data
        for message in messages:
            if len(message) < _HEADER:
                raise ValueError("a netlink message without its header")
            data = message
            memcpy(&header, data, _HEADER)
            self._sequence += 1
            header.nlmsg_len = <uint32_t>len(message)
            header.nlmsg_flags |= NLM_F_REQUEST | flags
            header.nlmsg_seq = self._sequence
            header.nlmsg_pid = 0
            whole += PyBytes_FromStringAndSize(<char *>&header, _HEADER)
            whole += message[_HEADER:]
            whole += b"\0" * (-len(message) & 3)
        return whole

    cdef int _send(self, bytearray data) except -1:
        cdef const char *address = data
        cdef size_t size = len(data)
        cdef ssize_t status
        cdef int number
        while True:
            with nogil:
                status = send(self._fd, address, size, 0)
                number = errno
            if status >= 0:
                return 0
            if number != EINTR:
                raise _failed("send", "netlink", number)

    cdef bytes _receive(self):
        """The kernel's next datagram."""
        cdef bytes buffer = PyBytes_FromStringAndSize(NULL, _ANSWER)
        cdef char *address = PyBytes_AS_STRING(buffer)
        cdef ssize_t size
        cdef int number
        while True:
            with nogil:
                size = recv(self._fd, address, _ANSWER, MSG_TRUNC)
                number = errno
            if size >= 0:
                break
            if number == EAGAIN:
                number = ETIMEDOUT
            if number != EINTR:
                raise _failed("receive", "netlink", number)
        if size > _ANSWER:
            raise _failed("receive", "netlink: a message too long", EPROTO)
        return buffer[:size]

    def batch(self, messages):
        cdef list whole = list(messages)
        cdef Py_ssize_t start
        cdef object first = None
        for start in range(0, len(whole), _AT_ONCE):
            found = self._some(whole[start:start + _AT_ONCE], start)
            first = first or found
        if first is not None:
            raise first

    cdef object _some(self, list messages, Py_ssize_t start):
        """Send some messages; return the error of the first one that was refused, or None."""
        cdef uint32_t base = self._sequence + 1
        cdef Py_ssize_t missing = len(messages)
        cdef object first = None
        cdef bytes answer
        cdef const uint8_t *data
        cdef nlmsghdr header
        cdef Py_ssize_t at, index
        cdef int32_t number
        self._send(self._numbered(messages, NLM_F_ACK))
        while missing > 0:
            answer = self._receive()
            data = answer
            at = 0
            while at + _HEADER <= len(answer):
                memcpy(&header, data + at, _HEADER)
                if header.nlmsg_len < _HEADER or header.nlmsg_len > len(answer) - at:
                    raise _failed("receive", "netlink: a broken message", EPROTO)
                index = <Py_ssize_t>(<uint32_t>(header.nlmsg_seq - base))
                # Answers to an earlier call that gave up may still be on their way.
                if header.nlmsg_type == NLMSG_ERROR and index < len(messages) and (
                        header.nlmsg_len >= 20):
                    memcpy(&number, data + at + _HEADER, 4)
                    missing -= 1
                    if number != 0 and first is None:
                        words = _words_of(data + at, header.nlmsg_len)
                        first = NetlinkError(-number, words, start + index)
                at += (header.nlmsg_len + 3) & ~3
        return first

    def query(self, bytes message):
        cdef int _try
        for _try in range(_DUMPS):
            answers = self._query(message)
            if answers is not None:
                return answers
        raise _failed("query", "netlink: the tables change all the time", EAGAIN)

    cdef list _query(self, bytes message):
        """The answers without their headers, as (type, body); None: others changed something."""
        cdef list found = []
        cdef bytes answer
        cdef const uint8_t *data
        cdef nlmsghdr header
        cdef Py_ssize_t at
        cdef int32_t number
        cdef bint disturbed = False
        memcpy(&header, <const char *>message, _HEADER)
        cdef bint dump = (header.nlmsg_flags & NLM_F_DUMP) == NLM_F_DUMP
        self._send(self._numbered([message], 0 if dump else NLM_F_ACK))
        while True:
            answer = self._receive()
            data = answer
            at = 0
            while at + _HEADER <= len(answer):
                memcpy(&header, data + at, _HEADER)
                if header.nlmsg_len < _HEADER or header.nlmsg_len > len(answer) - at:
                    raise _failed("receive", "netlink: a broken message", EPROTO)
                if header.nlmsg_seq == self._sequence:
                    disturbed = disturbed or (header.nlmsg_flags & NLM_F_DUMP_INTR) != 0
                    if header.nlmsg_type in (NLMSG_ERROR, NLMSG_DONE):
                        number = 0
                        if header.nlmsg_len >= 20:
                            memcpy(&number, data + at + _HEADER, 4)
                        if number < 0:
                            raise NetlinkError(-number, _words_of(data + at, header.nlmsg_len), 0)
                        return None if disturbed else found
                    found.append((header.nlmsg_type,
                                  answer[at + _HEADER:at + header.nlmsg_len]))
                at += (header.nlmsg_len + 3) & ~3

    def index(self, str name):
        cdef ifreq request
        cdef bytes raw = name.encode()
        cdef const char *text = raw
        if not raw or len(raw) >= IFNAMSIZ:
            raise _failed("find link", name, EINVAL)
        memset(&request, 0, sizeof(request))
        memcpy(request.ifr_name, text, len(raw))
        if ioctl(self._fd, SIOCGIFINDEX, &request) < 0:
            raise _failed("find link", name, errno)
        return request.ifr_ifindex
