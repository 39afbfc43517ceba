"""The grammar of `--publish` and `--expose`."""

from __future__ import annotations

from boxwood.cli.opts._errors import OptError
from boxwood.cli.opts._net import is_ip
from boxwood.cli.opts._scalars import parse_int

Bindings = dict[str, list[dict[str, str]]]
_PROTOCOLS = ("tcp", "udp", "sctp")


def published(specs: list[str]) -> Bindings:
    """Port bindings by `PORT/PROTOCOL`, as HostConfig.PortBindings has them. Raises OptError."""
    found: Bindings = {}
    for spec in specs:
        for port, binding in _publish(_short_form(spec)):
            found.setdefault(port, []).append(binding)
    return found


def exposed(specs: list[str]) -> list[str]:
    """The ports of `--expose` as `PORT/PROTOCOL`, ranges taken apart. Raises OptError."""
    found = []
    for spec in specs:
        if ":" in spec:
            raise OptError(f"invalid port format for --expose: {spec}")
        protocol, ports = _protocol(spec)
        try:
            start, end = _range(ports)
        except OptError as error:
            raise OptError(f"invalid range format for --expose: {spec}, error: {error}") from None
        found += [f"{port}/{protocol}" for port in range(start, end + 1)]
    return found


def _short_form(spec: str) -> str:
    """`target=80,published=8080,...` as `8080:80/tcp`."""
    if "=" not in spec:
        return spec
    given = {"protocol": "tcp"}
    for part in spec.split(","):
        key, equals, value = part.partition("=")
        if not equals or not key:
            raise OptError(f"invalid publish opts format (should be name=value but got '{part}')")
        given[key] = value
    return f"{given.get('published', '')}:{given.get('target', '')}/{given['protocol']}"


def _protocol(text: str) -> tuple[str, str]:
    """The protocol, tcp when there is none, and the port or range."""
    ports, _, rest = text.partition("/")
    if not ports:
        return "", ""
    return rest.partition("/")[0] or "tcp", ports


def _range(text: str) -> tuple[int, int]:
    if not text:
        raise OptError("empty string specified for ports")
    parts = text.split("-")
    start = parse_int(parts[0], bits=16, unsigned=True)
    end = parse_int(parts[1], bits=16, unsigned=True) if len(parts) > 1 else start
    if end < start:
        raise OptError(f"invalid range specified for port: {text}")
    return start, end


def _named_range(text: str, name: str) -> tuple[int, int]:
    try:
        return _range(text)
    except OptError:
        raise OptError(f"invalid {name}: {text}") from None


def _address(text: str) -> str:
    """A host address, without the brackets that IPv6 may have."""
    if text.startswith("["):
        if not text.endswith("]"):
            raise OptError(f"invalid IP address {text}: address {text}:: missing ']' in address")
        text = text[1:-1]
    if text and not is_ip(text):
        raise OptError(f"invalid IP address: {text}")
    return text


def _publish(spec: str) -> list[tuple[str, dict[str, str]]]:
    """The bindings of one `[ADDRESS:][HOST:]CONTAINER[/PROTOCOL]`."""
    head, _, last = spec.rpartition(":")
    address, _, host = head.rpartition(":")
    protocol, ports = _protocol(last)
    address = _address(address)
    if not ports:
        raise OptError(f"no port specified: {spec}<empty>")
    start, end = _named_range(ports, "containerPort")
    host_start, host_end = _named_range(host, "hostPort") if host else (0, 0)
    if host and end - start != host_end - host_start and end != start:
        raise OptError(f"invalid ranges specified for container and host Ports: {ports} and {host}")
    if protocol.lower() not in _PROTOCOLS:
        raise OptError(f"invalid proto: {protocol}")
    found = []
    for step in range(end - start + 1):
        chosen = str(host_start + step) if host else ""
        if start == end and host_start != host_end:
            chosen = f"{host_start}-{host_end}"
        binding = {"HostIp": address, "HostPort": chosen}
        found.append((f"{start + step}/{protocol.lower()}", binding))
    return found
