"""What a power cut leaves of a directory driver: files that were not written out yet are empty."""

from __future__ import annotations

from pathlib import Path

import pytest

from boxwood_plugins.storage.vfs import VfsDriver


@pytest.mark.parametrize(("kind", "place"), [("committed", "trash"), ("active", "broken")])
def test_an_empty_description(tmp_path: Path, kind: str, place: str) -> None:
    """The driver starts; a layer without it is rubbish, a container's files are kept."""
    VfsDriver(tmp_path)
    snapshot = tmp_path / kind / "some"
    snapshot.mkdir()
    (snapshot / "info.json").touch()
    driver = VfsDriver(tmp_path)
    assert list(driver.walk()) == []
    assert not snapshot.exists()
    assert len(list((tmp_path / place).iterdir())) == 1
