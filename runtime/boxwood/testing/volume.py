"""The conformance kit of volume drivers: what :mod:`boxwood.drivers.volume` promises, as tests.

Run it against any installed driver, as root::

    pytest --boxwood-volume=NAME --pyargs boxwood.testing.volume

or make a class of your own from :class:`VolumeSuite`.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest

from boxwood.drivers import manager
from boxwood.drivers.volume import Volume, VolumeDriver
from boxwood.errors import Conflict, InvalidArgument, NotFound
from boxwood.testing.plugin import chosen

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine of the driver to its end."""
    return asyncio.run(work)


class VolumeSuite:
    """What every volume driver does. A subclass names the driver."""

    driver_name: ClassVar[str] = ""
    volume_options: ClassVar[Mapping[str, str]] = {}
    """Options of each volume that is made."""

    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        """The driver's root."""
        path = tmp_path / "volumes"
        path.mkdir()
        return path

    def make(self, root: Path) -> VolumeDriver:
        """Make the driver, as the engine would after a start."""
        driver = manager.select("volume", self.driver_name, root=root, options={})
        assert isinstance(driver, VolumeDriver)
        return driver

    @pytest.fixture
    def driver(self, root: Path) -> VolumeDriver:
        """A fresh driver."""
        return self.make(root)

    def create(self, driver: VolumeDriver, name: str) -> Volume:
        """Make a volume with the suite's options."""
        return run(driver.create(name, self.volume_options))

    def names(self, driver: VolumeDriver) -> list[str]:
        """Return the names of all volumes, in order."""
        return sorted(volume.name for volume in run(driver.list()))

    def discard(self, driver: VolumeDriver, name: str) -> None:
        """Remove a volume, and what is left of it as the core's worker would."""
        left = run(driver.remove(name))
        if left is not None:
            assert left in driver.trash()
            shutil.rmtree(left)

    def test_create_is_idempotent(self, driver: VolumeDriver) -> None:
        """The second call returns what the first one made, with what is in it."""
        first = self.create(driver, "books")
        place = run(driver.mount("books", "reader"))
        (place / "page").write_text("one")
        again = self.create(driver, "books")
        assert (again.name, again.mountpoint) == ("books", first.mountpoint)
        assert (place / "page").read_text() == "one"
        assert self.names(driver) == ["books"]
        run(driver.unmount("books", "reader"))
        self.discard(driver, "books")

    def test_users_share_what_is_in_it(self, driver: VolumeDriver) -> None:
        """Several users at once; one that leaves, or comes twice, takes it from nobody."""
        self.create(driver, "books")
        first = run(driver.mount("books", "one"))
        (first / "page").write_text("one")
        second = run(driver.mount("books", "two"))
        assert run(driver.mount("books", "two")) == second
        assert (second / "page").read_text() == "one"
        run(driver.unmount("books", "one"))
        run(driver.unmount("books", "one"))
        assert (second / "page").read_text() == "one"
        run(driver.unmount("books", "two"))
        third = run(driver.mount("books", "three"))
        assert (third / "page").read_text() == "one"
        run(driver.unmount("books", "three"))
        self.discard(driver, "books")

    def test_volumes_are_apart(self, driver: VolumeDriver) -> None:
        """What is written to one is not in another."""
        for name in ("books", "songs"):
            self.create(driver, name)
        (run(driver.mount("books", "u")) / "page").write_text("one")
        assert not (run(driver.mount("songs", "u")) / "page").exists()
        assert self.names(driver) == ["books", "songs"]
        for name in ("books", "songs"):
            run(driver.unmount(name, "u"))
            self.discard(driver, name)

    def test_a_mounted_one_stays(self, driver: VolumeDriver) -> None:
        """The removal of a volume in use is refused, or at least loses nothing."""
        self.create(driver, "books")
        place = run(driver.mount("books", "u"))
        (place / "page").write_text("one")
        with pytest.raises(Conflict):
            run(driver.remove("books"))
        assert (place / "page").read_text() == "one"
        run(driver.unmount("books", "u"))
        self.discard(driver, "books")

    def test_removal_is_idempotent_and_frees_the_name(self, driver: VolumeDriver) -> None:
        """Gone from the list at once; a new one of the name is empty."""
        self.create(driver, "books")
        (run(driver.mount("books", "u")) / "page").write_text("one")
        run(driver.unmount("books", "u"))
        left = run(driver.remove("books"))
        assert self.names(driver) == []
        assert run(driver.remove("books")) is None
        self.create(driver, "books")
        place = run(driver.mount("books", "u"))
        assert list(place.iterdir()) == []
        run(driver.unmount("books", "u"))
        self.discard(driver, "books")
        if left is not None:
            shutil.rmtree(left)

    def test_what_is_not_there(self, driver: VolumeDriver) -> None:
        """Mounting it is NotFound; leaving and removing it is done already."""
        with pytest.raises(NotFound):
            run(driver.mount("nothing", "u"))
        run(driver.unmount("nothing", "u"))
        assert run(driver.remove("nothing")) is None

    def test_an_unknown_option_leaves_nothing(self, driver: VolumeDriver) -> None:
        """InvalidArgument, and no volume."""
        with pytest.raises(InvalidArgument):
            run(driver.create("books", {"boxwood-no-such-option": "1"}))
        assert self.names(driver) == []

    def test_it_outlives_the_daemon(self, driver: VolumeDriver, root: Path) -> None:
        """A new driver on the same root has the volumes; users that are gone hold nothing."""
        self.create(driver, "books")
        (run(driver.mount("books", "gone")) / "page").write_text("one")
        after = self.make(root)
        assert self.names(after) == ["books"]
        assert all(isinstance(text, str) for text in run(after.reconcile({"books": set()})))
        assert (run(after.mount("books", "new")) / "page").read_text() == "one"
        run(after.unmount("books", "new"))
        self.discard(after, "books")


class TestVolume(VolumeSuite):
    """The driver that ``--boxwood-volume`` names; its options become the volumes'."""

    @pytest.fixture(autouse=True)
    def _named(self, request: pytest.FixtureRequest) -> None:
        type(self).driver_name, type(self).volume_options = chosen(request, "volume")
