"""Local volumes, as far as they need no root."""

from __future__ import annotations

from pathlib import Path

import pytest

from boxwood.errors import Conflict, InvalidArgument, NotFound
from boxwood_plugins.volume.local import LocalVolumes


async def test_life(tmp_path: Path) -> None:
    driver = LocalVolumes(tmp_path)
    volume = await driver.create("data", {})
    assert await driver.create("data", {}) == volume
    path = await driver.mount("data", "c1")
    assert str(path) == volume.mountpoint
    (path / "file").write_text("kept")
    with pytest.raises(Conflict):
        await driver.remove("data")
    await driver.unmount("data", "c1")
    await driver.unmount("data", "c1")
    assert [found.name for found in await LocalVolumes(tmp_path).list()] == ["data"]
    rest = await driver.remove("data")
    assert rest is not None
    assert (rest / "_data" / "file").read_text() == "kept"
    assert await driver.list() == []
    assert list(driver.trash()) == [rest]
    assert await driver.remove("data") is None


async def test_a_bind_needs_no_mount_of_ours(tmp_path: Path) -> None:
    driver = LocalVolumes(tmp_path / "root")
    await driver.create("b1", {"type": "none", "o": "bind", "device": str(tmp_path)})
    assert await driver.mount("b1", "c") == tmp_path


@pytest.mark.parametrize("name", ["", "a", "../x", "a/b", ".x", "a" * 300])
async def test_bad_names(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidArgument):
        await LocalVolumes(tmp_path).create(name, {})


@pytest.mark.parametrize("options", [{"x": "y"}, {"o": "size=1m"}, {"o": "bind", "type": "none"}])
async def test_bad_options(tmp_path: Path, options: dict[str, str]) -> None:
    with pytest.raises(InvalidArgument):
        await LocalVolumes(tmp_path).create("vol", options)
    assert await LocalVolumes(tmp_path).list() == []


async def test_no_such_volume(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        await LocalVolumes(tmp_path).mount("nope", "c")
