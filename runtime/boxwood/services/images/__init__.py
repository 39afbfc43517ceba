"""Images: what is here, how it is named, how it comes and goes."""

from boxwood.services.images.service import ImagesService
from boxwood.services.images.shipping import Registries

__all__ = ["ImagesService", "Registries"]
