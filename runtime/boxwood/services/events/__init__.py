"""What happened, for whoever watches."""

from boxwood.services.events.service import EventsService, Subscription

__all__ = ["EventsService", "Subscription"]
