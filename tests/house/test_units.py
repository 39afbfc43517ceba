"""The systemd units that come with the package are what systemd takes for units."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.support.needs import need_program
from tests.support.paths import BOXWOOD, ROOT

UNITS = ROOT / "runtime" / "boxwood" / "systemd"


def test_units_verify(tmp_path: Path) -> None:
    """systemd-analyze finds nothing to say about them, once the program is where it looks."""
    analyze = need_program("systemd-analyze")
    for unit in UNITS.glob("boxwood.*"):
        shutil.copy(unit, tmp_path)
    service = tmp_path / "boxwood.service"
    text = service.read_text()
    assert "\nExecStart=boxwood daemon " in text
    service.write_text(text.replace("ExecStart=boxwood", f"ExecStart={BOXWOOD}"))
    done = subprocess.run(
        [analyze, "verify", "--man=no", *map(str, sorted(tmp_path.iterdir()))],
        capture_output=True,
        text=True,
        check=False,
    )
    said = [line for line in done.stderr.splitlines() if "boxwood" in line]
    assert (done.returncode, said) == (0, [])


def test_containers_outlive_the_service() -> None:
    """A stop or restart of the unit leaves what the containers run in alone."""
    text = (UNITS / "boxwood.service").read_text()
    assert "\nKillMode=process\n" in text
    assert "\nDelegate=yes\n" in text


def test_socket_is_not_for_everybody() -> None:
    """The socket is for root and its group."""
    text = (UNITS / "boxwood.socket").read_text()
    assert "\nSocketMode=0660\n" in text
    assert "\nSocketGroup=boxwood\n" in text
    assert "\ng boxwood " in (UNITS / "boxwood-sysusers.conf").read_text()
