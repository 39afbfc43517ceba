"""The tests of what is compiled, once more on a build with sanitizers.

The extensions get the address and the undefined-behaviour sanitizer; the shim, which is static, the
latter as a trap. A finding ends the process that made it, and so fails the test that was running.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.needs import need, need_root
from tests.support.paths import ROOT

pytestmark = [pytest.mark.root, pytest.mark.timeout(900)]

BUILD = ROOT / "build" / "debug"
SUITES = (
    ("tests/unit/launch", "tests/integration/launch", "tests/unit/execution/test_cdc.py"),
    (
        "tests/integration/tar",
        # Its jobs run in workers, which do not get the sanitizer's library.
        "tests/integration/diff/test_laws.py",
        "tests/integration/diff/test_live.py",
        "tests/integration/diff/test_copied.py::test_it_finds_the_same[tmpfs]",
        "tests/integration/diff/test_copied.py::test_any_slots_are_borne[tmpfs]",
        "tests/fuzz",
    ),
)
"""Run side by side, each in order: alone, either leaves half of two processors idle."""


def library() -> str:
    """Return the address sanitizer's library, which must be there before Python is."""
    found = subprocess.run(
        ["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    ).stdout.strip()
    need(Path(found).is_absolute(), "gcc's libasan")
    return found


def run_suites(
    suites: Sequence[str], environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run tests in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *suites],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


def test_compiled_parts_under_sanitizers() -> None:
    """The suites of ext/ pass on the debug build."""
    need_root()
    environment = dict(os.environ)
    build = [*(sys.executable, "setup.py", "-q", "build", "-j2"), f"--build-base={BUILD}"]
    subprocess.run(
        [*build, f"--build-lib={BUILD / 'lib'}"],
        cwd=ROOT,
        env=environment | {"BOXWOOD_DEBUG": "1"},
        check=True,
        timeout=300,
    )
    for package in ("boxwood", "boxwood_plugins"):  # what is not compiled comes from the checkout
        shutil.rmtree(BUILD / "lib" / package)
    environment |= {
        "PYTHONPATH": str(BUILD / "lib"),
        "LD_PRELOAD": library(),
        # Python keeps memory to its end; that is no leak of ours.
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1",
        "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
    }
    where = "import boxwood_ext.tar as module; print(module.__file__)"
    used = subprocess.run(
        [sys.executable, "-c", where], env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert used.startswith(str(BUILD))
    with ThreadPoolExecutor(len(SUITES)) as pool:
        runs = [pool.submit(run_suites, suites, environment) for suites in SUITES]
    for run in runs:
        done = run.result()
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]


def test_helper_under_sanitizers() -> None:
    """The tests of names and ports pass with a helper built with both."""
    need_root()
    done = run_suites(["tests/integration/names"], os.environ | {"BOXWOOD_SANITIZE": "1"})
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
