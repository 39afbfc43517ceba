"""A while of fuzzing the tar extractor with every run; ``./dev fuzz`` gives it longer."""

from __future__ import annotations

import os

import pytest

from tests.fuzz.fuzz_tar import main
from tests.support.needs import need_root

SECONDS = 60.0 if os.environ.get("HYPOTHESIS_PROFILE") == "fuzz" else 2.0


@pytest.mark.property
def test_mutated_archives() -> None:
    need_root()
    seed = int.from_bytes(os.urandom(4), "big")
    print(f"seed {seed}")
    before = os.umask(0)
    try:
        assert main(SECONDS, seed) > 10
    finally:
        os.umask(before)
