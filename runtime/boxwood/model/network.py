"""The record of a network (Engine API ``Network``), and what a client asks for to get one."""

from __future__ import annotations

import msgspec

from boxwood.model.wire import Wire

DEFAULT = "bridge"
"""The network of containers that ask for none, unless the configuration says otherwise."""
HOST = "host"
NONE = "none"
PREDEFINED = (DEFAULT, HOST, NONE)
"""Networks that every engine has, that nobody makes or removes."""
RESERVED = (*PREDEFINED, "default")
"""Names that mean something already."""
DNS_LABEL = "boxwood.dns"
"""Label of a network: who answers its containers' questions."""
DNS_ON, DNS_HOST, DNS_OFF = "on", "host", "off"
"""The engine's name server (the default); the host's servers, without it; nobody."""
DNS_MODES = (DNS_ON, DNS_HOST, DNS_OFF)
DEFAULT_BRIDGE_OPTION = "com.docker.network.bridge.default_bridge"


WAY_OUT = {4: "DefaultGatewayIPv4", 6: "DefaultGatewayIPv6"}
"""Auxiliary addresses that take the gateway's place in containers, by IP version, as in Docker."""


class IPAMConfig(Wire):
    """A subnet in CIDR form, what addresses are given from, and what is kept back."""

    subnet: str = msgspec.field(default="", name="Subnet")
    ip_range: str = msgspec.field(default="", name="IPRange")
    gateway: str = msgspec.field(default="", name="Gateway")
    auxiliary: dict[str, str] | None = msgspec.field(default=None, name="AuxiliaryAddresses")


class IPAM(Wire):
    """Who gives addresses, and of which subnets."""

    driver: str = msgspec.field(default="default", name="Driver")
    options: dict[str, str] | None = msgspec.field(default=None, name="Options")
    config: tuple[IPAMConfig, ...] | None = msgspec.field(default=None, name="Config")


class ConfigReference(Wire):
    """The network whose configuration another one takes."""

    network: str = msgspec.field(default="", name="Network")


class NetworkCreate(Wire):
    """Body of ``POST /networks/create``. ``CheckDuplicate`` is ignored: names are unique."""

    name: str = msgspec.field(default="", name="Name")
    driver: str = msgspec.field(default="", name="Driver")
    scope: str = msgspec.field(default="", name="Scope")
    internal: bool = msgspec.field(default=False, name="Internal")
    attachable: bool = msgspec.field(default=False, name="Attachable")
    ingress: bool = msgspec.field(default=False, name="Ingress")
    config_only: bool = msgspec.field(default=False, name="ConfigOnly")
    config_from: ConfigReference | None = msgspec.field(default=None, name="ConfigFrom")
    ipam: IPAM | None = msgspec.field(default=None, name="IPAM")
    ipv4: bool | None = msgspec.field(default=None, name="EnableIPv4")
    ipv6: bool | None = msgspec.field(default=None, name="EnableIPv6")
    options: dict[str, str] | None = msgspec.field(default=None, name="Options")
    labels: dict[str, str] | None = msgspec.field(default=None, name="Labels")


class Network(Wire, kw_only=True):
    """A network.

    Attributes:
        driver: what clients see: a plugin's name, ``null`` for the network ``none``.
        created: nanoseconds since the epoch.
        ipam: with the subnets and gateways that were given out, in the order of the families.
    """

    id: str = msgspec.field(name="Id")
    name: str = msgspec.field(name="Name")
    created: int = 0
    scope: str = msgspec.field(default="local", name="Scope")
    driver: str = msgspec.field(name="Driver")
    ipv4: bool = msgspec.field(default=True, name="EnableIPv4")
    ipv6: bool = msgspec.field(default=False, name="EnableIPv6")
    ipam: IPAM = msgspec.field(default_factory=IPAM, name="IPAM")
    internal: bool = msgspec.field(default=False, name="Internal")
    attachable: bool = msgspec.field(default=False, name="Attachable")
    ingress: bool = msgspec.field(default=False, name="Ingress")
    config_from: str = msgspec.field(default="", name="ConfigFrom")
    config_only: bool = msgspec.field(default=False, name="ConfigOnly")
    options: dict[str, str] = msgspec.field(default_factory=dict, name="Options")
    labels: dict[str, str] = msgspec.field(default_factory=dict, name="Labels")

    @property
    def predefined(self) -> bool:
        """Whether every engine has it."""
        return self.name in PREDEFINED

    @property
    def dns(self) -> str:
        """Who answers its containers' questions: one of ``DNS_MODES``."""
        if self.predefined:
            return DNS_HOST
        return self.labels.get(DNS_LABEL, DNS_ON)

    @property
    def default(self) -> bool:
        """Whether it is the engine's own bridge: no names are served there."""
        return self.name == DEFAULT
