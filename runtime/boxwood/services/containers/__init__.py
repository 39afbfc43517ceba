"""Containers: their records, their life, and what clients do with them."""

from boxwood.services.containers.context import Context, Settings
from boxwood.services.containers.service import ContainersService
from boxwood.services.containers.store import ContainerStore

__all__ = ["ContainerStore", "ContainersService", "Context", "Settings"]
