"""Images: what is here, how it is named, how it comes and goes."""

from boxwood.services.images.service import ImagesService

__all__ = ["ImagesService"]
