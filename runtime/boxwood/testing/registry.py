"""The conformance kit of registry transports: what :mod:`boxwood.drivers.registry` promises.

Run it against any installed transport::

    boxwood plugin test --kind registry --opt place=oci:{root}/{name}:{tag} oci
    pytest --boxwood-registry=NAME --pyargs boxwood.testing.registry

or make a class of your own from :class:`RegistrySuite`. Images are the kit's own, pushed by the
transport itself to a place that is named by a pattern; a transport that cannot push is asked about
names and peers alone, unless a suite overrides :meth:`RegistryKit.put`.
"""

from __future__ import annotations

import pytest

from boxwood.testing.plugin import chosen
from boxwood.testing.registry_kit import KitImage, RegistryKit, fetched, source_of
from boxwood.testing.registry_laws import ContentLaws, NameLaws, PushLaws
from boxwood.testing.registry_peers import PeerLaws

__all__ = ["KitImage", "RegistryKit", "RegistrySuite", "fetched", "source_of"]


HASTY = "hasty."


class RegistrySuite(NameLaws, ContentLaws, PushLaws, PeerLaws):
    """What every registry transport does. A subclass names the transport and a place."""


class TestRegistry(RegistrySuite):
    """The transport that ``--boxwood-registry`` names.

    Of the options ``place``, ``peer``, ``converts`` and ``hasty.KEY`` are the kit's (see
    :class:`RegistryKit`), the others the transport's.
    """

    @pytest.fixture(autouse=True)
    def _named(self, request: pytest.FixtureRequest) -> None:
        cls = type(self)
        cls.driver_name, options = chosen(request, "registry")
        cls.place = options.pop("place", "")
        cls.peer = options.pop("peer", "")
        cls.keeps_manifests = options.pop("converts", "") not in ("1", "true")
        cls.hasty = {
            key.removeprefix(HASTY): options.pop(key) for key in [*options] if key.startswith(HASTY)
        }
        cls.driver_options = options
