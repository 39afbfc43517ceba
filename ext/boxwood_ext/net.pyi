"""Network namespaces (network_namespaces(7)) and rtnetlink(7), without the GIL while they wait.

Descriptors in stay the caller's; descriptors out are close-on-exec and become the caller's. A
failure raises OSError with errno and a text ``operation: object: cause``. What enters another
namespace does so on the calling thread alone and comes home before it returns; if the way home
fails, the process ends (abort), because it would go on in a container's network.

The messages themselves are built by :mod:`boxwood_ext.rtnl`.
"""

from collections.abc import Callable, Iterable
from typing import Self, TypeVar

_R = TypeVar("_R")

class NetlinkError(OSError):
    """The kernel refused a message; ``errno`` says why."""

    index: int
    """Which of the batch, from 0."""
    detail: str
    """The kernel's own words (extended acknowledgement), or empty."""

def make_namespace() -> int:
    """Make a network namespace with its loopback up, and return its descriptor.

    It lives as long as the descriptor is open or a process is in it. Costs some 0.3 ms in the
    kernel, and may wait for others' changes: not for the event loop's thread.
    """

def socket_in(netns: int, family: int, kind: int, protocol: int = 0) -> int:
    """Open a socket in another network namespace."""

def sysctls_in(netns: int, settings: Iterable[tuple[str, str]]) -> None:
    """Write sysctls of a namespace, in order: (path below /proc/sys/net, value).

    At most 32; the first that fails ends it, and the error names it.
    """

def call_in(netns: int, function: Callable[..., _R], *args: object) -> _R:
    """Call a function while this thread is in another network namespace.

    For libraries that open sockets of their own. The function must neither start threads nor
    yield to an event loop.
    """

class Netlink:
    """A rtnetlink socket, of this namespace or (``netns`` a descriptor) of another.

    One thread at a time. Closed by ``close``, at the end of a ``with``, or with the object.
    """

    def __init__(self, netns: int = -1) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...
    def close(self) -> None:
        """Close the socket. Idempotent."""

    def fileno(self) -> int:
        """Return the descriptor; -1 when closed."""

    def batch(self, messages: Iterable[bytes]) -> None:
        """Send messages (header included; its length, sequence and ACK are filled in here).

        The kernel carries out all of them, in order, also those after one that it refused: who
        needs all or nothing undoes the rest. 64 go in one system call.

        Raises:
            NetlinkError: the first that was refused.
        """

    def query(self, message: bytes) -> list[tuple[int, bytes]]:
        """Ask for one thing, or for a dump (NLM_F_DUMP set): (message type, body) of each answer.

        A dump that others disturbed is asked for again, ten times at most.
        """

    def index(self, name: str) -> int:
        """Return the index of a link in the socket's namespace (ENODEV: there is none)."""
