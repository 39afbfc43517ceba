"""Addresses, host entries and the networks of a new container."""

from __future__ import annotations

from _socket import AF_INET, AF_INET6, inet_ntop, inet_pton

from boxwood.cli.opts._csv import parse_csv
from boxwood.cli.opts._errors import FlagError, OptError, quoted
from boxwood.cli.opts._limits import empty_endpoint
from boxwood.cli.opts._scalars import parse_int

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_MAC_LENGTHS = (6, 8, 20)  # bytes of an EUI-48, an EUI-64, an IP-over-InfiniBand address


def canonical_ip(text: str) -> str | None:
    """The address in its usual form; None if `text` is none."""
    for family in (AF_INET, AF_INET6):
        try:
            return inet_ntop(family, inet_pton(family, text))
        except (OSError, ValueError):
            continue
    return None


def is_ip(text: str) -> bool:
    """Whether `text` is an IPv4 or IPv6 address."""
    return canonical_ip(text) is not None


def dns_server(text: str) -> str:
    """The address of a DNS server. Raises OptError."""
    address = canonical_ip(text.strip())
    if address and "." in address:
        address = address.rpartition(":")[2]  # IPv4 in IPv6 clothes
    if address is None:
        raise OptError(f"IP address is not correctly formatted: {text.strip()}")
    return address


def dns_search(text: str) -> str:
    """A search domain, or `.` for none. Raises OptError."""
    domain = text.strip()
    if domain == ".":
        return domain
    name = domain.removesuffix(".")
    if not _is_domain(name):
        raise OptError(f"{domain} is not a valid domain")
    return name


def _is_domain(name: str) -> bool:
    if not any(char.isalpha() for char in name) or not name.isascii() or len(name) >= 255:
        return False
    return all(
        label.replace("-", "").isalnum() and label[0] != "-" and label[-1] != "-"
        for label in name.split(".")
    )


def extra_host(text: str) -> str:
    """`HOST:ADDRESS` of `--add-host`, which may be parted by `=` too. Raises OptError."""
    host, found, address = text.partition("=")
    if not found:
        host, found, address = text.partition(":")
    if not found or not host or ":" in host:
        raise OptError(f"bad format for add-host: {quoted(text)}")
    if len(address) > 2 and address[0] == "[" and address[-1] == "]":
        address = address[1:-1]
    if address != "host-gateway" and not is_ip(address.strip()):
        raise OptError(f"invalid IP address in add-host: {quoted(address)}")
    return f"{host}:{address}"


def check_mac(text: str) -> None:
    """Raises OptError if `text` is no MAC address."""
    mark = ":" if ":" in text else "-" if "-" in text else "."
    parts = text.strip().split(mark)
    width = 4 if mark == "." else 2
    digits = "".join(parts)
    good = all(len(part) == width for part in parts) and len(digits) // 2 in _MAC_LENGTHS
    if not good or any(char not in "0123456789abcdefABCDEF" for char in digits):
        raise OptError(f"{text} is not a valid mac address")


# -- networks


class Attachment:
    """One network that a container is to be connected to."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.aliases: list[str] = []
        self.links: list[str] = []
        self.ip = ""
        self.ip6 = ""
        self.mac = ""
        self.link_local: list[str] = []
        self.driver_opts: dict[str, str] = {}
        self.priority = 0


def is_user_defined(mode: str) -> bool:
    """Whether a network mode names a network that a user made."""
    return mode not in ("default", "bridge", "host", "none") and not mode.startswith("container:")


def _is_long_form(text: str) -> bool:
    """Whether a word stands on both sides of some `=`."""
    return any(
        at and _is_word(text[at - 1]) and _is_word(text[at + 1 : at + 2])
        for at, char in enumerate(text)
        if char == "="
    )


def _is_word(char: str) -> bool:
    return char.isascii() and (char.isalnum() or char == "_")


def parse_network(text: str) -> Attachment:
    """One `--network`: a name or mode, or `name=...,alias=...,...`. Raises FlagError."""
    if not _is_long_form(text):
        return Attachment(text)
    attachment = Attachment("")
    try:
        for field in parse_csv(text):
            key, equals, value = field.lower().partition("=")
            if not equals or not key:
                raise OptError(f"invalid field {field}")
            _set_field(attachment, key.strip(), value.strip())
        if not attachment.target:
            raise OptError("network name/id is not specified")
    except OptError as error:
        raise FlagError(text, "--network", str(error)) from None
    return attachment


def _set_field(attachment: Attachment, key: str, value: str) -> None:
    match key:
        case "name":
            attachment.target = value
        case "alias":
            attachment.aliases.append(value)
        case "ip":
            attachment.ip = value
        case "ip6":
            attachment.ip6 = value
        case "mac-address":
            attachment.mac = value
        case "link-local-ip":
            attachment.link_local.append(value)
        case "driver-opt":
            option, equals, setting = value.partition("=")
            if not equals or not option:
                raise OptError("invalid key value pair format in driver options")
            attachment.driver_opts[option.strip()] = setting.strip()
        case "gw-priority":
            attachment.priority = _priority(value)
        case _:
            raise OptError(f"invalid field key {key}")


def _priority(text: str) -> int:
    try:
        return parse_int(text)
    except OptError as error:
        cause = str(error).rpartition(": ")[2]
        raise OptError(f"invalid gw-priority ({text}): {cause}") from None


# What a flag sets for the first network, what the long form calls it.
_BOTH = (
    ("aliases", "network_alias", "--network-alias and per-network alias"),
    ("links", "link", "--link and per-network links"),
    ("ip", "ip", "--ip and per-network IPv4 address"),
    ("ip6", "ip6", "--ip6 and per-network IPv6 address"),
    ("mac", "mac_address", "--mac-address and per-network MAC address"),
    ("link_local", "link_local_ip", "--link-local-ip and per-network link-local IP addresses"),
)


def _apply_flags(attachment: Attachment, flags: Mapping[str, Any]) -> None:
    """Gives the first network what the older flags say. Raises OptError if both do."""
    for name, flag, words in _BOTH:
        value = flags.get(flag)
        if not value:
            continue
        if getattr(attachment, name):
            raise OptError(f"conflicting options: cannot specify both {words}")
        if name != "links" or is_user_defined(attachment.target):
            setattr(attachment, name, list(value) if isinstance(value, list) else value)


def endpoint(attachment: Attachment) -> dict[str, Any]:
    """The attachment as the API's endpoint settings. Raises OptError."""
    if not attachment.target.strip():
        raise OptError("no name set for network")
    if not is_user_defined(attachment.target):
        if attachment.aliases:
            raise OptError("network-scoped aliases are only supported for user-defined networks")
        if attachment.links:
            raise OptError("links are only supported for user-defined networks")
    if attachment.mac:
        check_mac(attachment.mac)
    settings = empty_endpoint()
    settings["IPAMConfig"] = _ipam(attachment)
    settings["Links"] = attachment.links or None
    settings["Aliases"] = attachment.aliases or None
    settings["MacAddress"] = attachment.mac
    settings["DriverOpts"] = attachment.driver_opts or None
    settings["GwPriority"] = attachment.priority
    return settings


def _ipam(attachment: Attachment) -> dict[str, Any] | None:
    found: dict[str, Any] = {}
    if attachment.ip:
        found["IPv4Address"] = attachment.ip
    if attachment.ip6:
        found["IPv6Address"] = attachment.ip6
    if attachment.link_local:
        found["LinkLocalIPs"] = attachment.link_local
    return found or None


def endpoints(flags: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The network mode and the endpoints' settings by network. Raises OptError."""
    attachments = [parse_network(text) for text in flags.get("network") or ()]
    if not attachments:
        default = Attachment("default")
        _apply_flags(default, flags)
        return "default", {"default": endpoint(default)}
    found: dict[str, Any] = {}
    for at, attachment in enumerate(attachments):
        if not at:
            _apply_flags(attachment, flags)
        settings = endpoint(attachment)
        if attachment.target in found:
            raise OptError(f'network "{attachment.target}" is specified multiple times')
        if len(attachments) > 1 or settings != empty_endpoint():
            found[attachment.target] = settings
    kinds = {is_user_defined(attachment.target) for attachment in attachments}
    if len(kinds) > 1:
        raise OptError(
            "conflicting options: cannot attach both user-defined and non-user-defined "
            "network-modes"
        )
    return attachments[0].target, found
