"""Images: what is here, how it is named, how it comes and goes."""

from boxwood.services.images.service import ImagesService, Registries

__all__ = ["ImagesService", "Registries"]
