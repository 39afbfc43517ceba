"""A cable from each sandbox to the host, which routes between them: no bridge, no translation."""

from pathlib import Path

from boxwood.drivers.cables import CableDriver
from boxwood.drivers.hookspecs import hookimpl
from boxwood_ext import rtnl

SYSCTLS = Path("/proc/sys/net/ipv4")


class RoutedDriver(CableDriver):
    """The host answers for the neighbours (proxy ARP), so that a subnet looks like one."""

    name = "routed"

    def connect(self, host, cable, request):
        """Make the host the gateway of the sandbox, and the way to its addresses."""
        for key in ("ip_forward", f"conf/{cable}/proxy_arp"):
            (SYSCTLS / key).write_text("1")
        (SYSCTLS / f"neigh/{cable}/proxy_delay").write_text("0")
        link = host.index(cable)
        host.batch([rtnl.new_address(link, f"{gateway}/32") for gateway in request.gateways])
        for address in request.addresses:
            host.batch([rtnl.new_route(address.partition("/")[0] + "/32", "", link)])


@hookimpl
def network_driver(name, root, options):
    """Hand the driver over when it is asked for by its name."""
    return RoutedDriver(root) if name == RoutedDriver.name else None
