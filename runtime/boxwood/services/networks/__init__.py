"""Networks: records, subnets and addresses, and the drivers that make them real."""

from boxwood.model.network import Network
from boxwood.services.networks.options import NetworkSettings
from boxwood.services.networks.service import Endpoint, NetworksService

__all__ = ["Endpoint", "Network", "NetworkSettings", "NetworksService"]
