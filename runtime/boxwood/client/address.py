"""Where an engine is: `unix:///path`, `tcp://host:port`, `ssh://[user@]host[:port][/path]`."""

from __future__ import annotations

# The engine's own socket: <default exec root>/boxwood.sock (design.md section 5).
DEFAULT_EXEC_ROOT = "/run/boxwood"
DEFAULT_ADDRESS = f"unix://{DEFAULT_EXEC_ROOT}/boxwood.sock"
# Registered with IANA for Docker's REST API: plain, and over TLS.
PLAIN_PORT = 2375
TLS_PORT = 2376


class Address:
    """One place to connect to: `scheme` is ``unix``, ``tcp`` or ``ssh``.

    `path` is the socket's path (unix; ssh, where empty is that machine's default); `host` and
    `port` (0 for ssh: its own default) are for tcp and ssh, `user` for ssh, and `program`, what is
    run there; `prefix` is what precedes every request path (a proxy may serve the engine below a
    path). `text` is the form to show.
    """

    __slots__ = ("host", "path", "port", "prefix", "program", "scheme", "text", "user")

    def __init__(
        self,
        scheme: str,
        text: str,
        *,
        path: str = "",
        host: str = "",
        port: int = 0,
        prefix: str = "",
        user: str = "",
        program: str = "boxwood",
    ) -> None:
        self.scheme = scheme
        self.text = text
        self.path = path
        self.host = host
        self.port = port
        self.prefix = prefix
        self.user = user
        self.program = program


def parse_address(text: str, *, tls: bool = False, program: str = "boxwood") -> Address:
    """The address that `text` names; a bare `host[:port]` is tcp. Raises ValueError.

    `program` is what ssh runs over there: we are `docker` too, and then it is Docker's machine.
    """
    text = text.strip()
    scheme, mark, rest = text.partition("://")
    if not mark:
        scheme, rest = "tcp", text
    if scheme == "unix":
        return _unix(rest)
    if scheme == "tcp":
        return _tcp(rest, tls)
    if scheme == "ssh":
        return _ssh(text, rest, program)
    if scheme in ("npipe", "fd"):
        raise ValueError(f"host: {text}: {scheme}:// is not an address a client can use here")
    raise ValueError(f"unable to parse docker host `{text}`")


def _unix(rest: str) -> Address:
    path = rest or DEFAULT_ADDRESS.removeprefix("unix://")
    return Address("unix", f"unix://{path}", path=path)


def _ssh(text: str, rest: str, program: str) -> Address:
    authority, slash, path = rest.partition("/")
    user, at, machine = authority.rpartition("@")
    host, port = _split_port(machine)
    if not machine or not host.strip("[]") or (at and not user) or ":" in user:
        raise ValueError(f"host: {text}: not ssh://[USER@]HOST[:PORT][/PATH]")
    # What begins with a dash would be an option to ssh.
    if host.startswith("-") or user.startswith("-"):
        raise ValueError(f"host: {text}: a name that begins with a dash")
    if port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(f"host: {text}: {port!r} is no port")
    return Address(
        "ssh",
        text,
        path=slash + path,
        host=host,
        port=int(port or 0),
        user=user,
        program=program,
    )


def _tcp(rest: str, tls: bool) -> Address:
    authority, slash, tail = rest.partition("/")
    host, port = _split_port(authority)
    default = TLS_PORT if tls else PLAIN_PORT
    if port and not (port.isascii() and port.isdigit() and int(port) < 65536):
        raise ValueError(f"invalid bind address format: {rest}")
    number = int(port) if port else default
    shown = f"[{host}]" if ":" in host else host
    prefix = (slash + tail).rstrip("/")
    return Address("tcp", f"tcp://{shown}:{number}{prefix}", host=host, port=number, prefix=prefix)


def _split_port(authority: str) -> tuple[str, str]:
    if authority.startswith("["):
        host, _, rest = authority[1:].partition("]")
        return host, rest.removeprefix(":")
    host, _, port = authority.partition(":")
    return host or "127.0.0.1", port
