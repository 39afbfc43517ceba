"""Networks as records. The predefined ones only, until there is a driver with networks to make."""

from boxwood.services.networks.service import Network, NetworksService

__all__ = ["Network", "NetworksService"]
