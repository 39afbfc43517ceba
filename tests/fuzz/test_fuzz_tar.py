"""A while of fuzzing the tar extractor with every run; ``./dev fuzz`` gives it longer."""

from __future__ import annotations

import os
import random

import pytest

from tests.fuzz.fuzz_tar import main
from tests.support.needs import need_root


@pytest.mark.property
def test_mutated_archives(fuzz_random: random.Random, fuzz_seconds: float) -> None:
    need_root()
    before = os.umask(0)
    try:
        assert main(fuzz_seconds, fuzz_random.getrandbits(32)) > 10
    finally:
        os.umask(before)
