"""Base images from Debian's packages: the transport ``debootstrap``, and the workshop behind it."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.support.busybox import busybox_tar
from tests.support.engine import Engine

pytestmark = [pytest.mark.root, pytest.mark.timeout(900)]

NAME = "debootstrap:bookworm,variant=essential"


def pull(engine: Engine, name: str) -> list[dict[str, str]]:
    """Ask for a pull; returns its messages."""
    answer = engine.api("POST", f"/images/create?fromImage={quote(name)}", timeout=800)
    return [json.loads(line) for line in answer.body.splitlines()]


def test_a_suite_that_is_none(clean_engine: Engine) -> None:
    """Said by its name and the mirror's, and nothing is left of it."""
    (*_, last) = pull(clean_engine, "debootstrap:nosuchsuite")
    assert last["error"].startswith("debootstrap: no suite nosuchsuite on ")
    (message,) = pull(clean_engine, "debootstrap:bookworm,variant=nosuch")
    assert "no variant 'nosuch'" in message["message"]
    left = list((clean_engine.data_root / "registry/debootstrap").iterdir())
    assert left == []


def test_what_a_daemon_left_goes(make_engine: Callable[..., Engine]) -> None:
    """A workshop that was at work when the daemon died is cleared at the next start."""
    house = make_engine()
    house.docker("import", "-c", "LABEL boxwood.workshop=1", "-", input=busybox_tar(), text=False)
    (image,) = house.docker("images", "-q", "--filter", "dangling=true").stdout.split()
    house.docker("run", "-d", "--network", "none", "-l", "boxwood.workshop=1", image, "sleep", "99")
    house.docker("create", "--name", "other", "busybox")
    house.restart()
    assert house.docker("ps", "-aq").stdout.split() == [
        house.docker("ps", "-aqf", "name=other").stdout.strip()
    ]
    assert house.docker("images", "-q", "--filter", "dangling=true").stdout == ""


def test_the_same_packages_are_the_same_image(
    make_engine: Callable[..., Engine], soak: bool, tmp_path: Path
) -> None:
    """Two engines make the same bytes of it; a second pull makes nothing."""
    if not soak:
        pytest.skip("minutes long: with --soak")
    found = []
    for _ in range(2):
        house = make_engine(busybox=False)
        said = [message["status"] for message in pull(house, NAME)]
        assert "Setting packages up in a container" in said
        assert said[-1] == "Status: Downloaded newer image for localhost/debian:bookworm"
        found.append(said[-2])
        assert house.docker("ps", "-aq").stdout == ""
        assert len(house.docker("images", "-aq").stdout.split()) == 1
    assert found[0] == found[1]
    again = [message["status"] for message in pull(house, NAME)]
    assert "Fetching and unpacking packages" not in again
    assert again[-1] == "Status: Image is up to date for localhost/debian:bookworm"
    run = ("run", "--rm", "--network", "none", "localhost/debian:bookworm")
    assert house.docker(*run, "dpkg", "--audit").stdout == ""
    assert "bookworm" in house.docker(*run, "cat", "/etc/os-release").stdout
    (*_, last) = pull(house, f"{NAME},include=nosuchpackage")
    assert last["error"] == "debootstrap: mmdebstrap: Unable to locate package nosuchpackage"
    # Removed and pulled again it is made again, of the same bytes.
    house.docker("rmi", "localhost/debian:bookworm")
    assert [message["status"] for message in pull(house, NAME)][-2] == found[0]
    house.docker("save", "-o", tmp_path / "image.tar", "localhost/debian:bookworm")
    assert tarfile.is_tarfile(tmp_path / "image.tar")
