"""Volumes: their records, who uses them, and the drivers that hold the data."""

from boxwood.services.volumes.service import VolumesService

__all__ = ["VolumesService"]
