"""What several tests of plugins have in common."""

from __future__ import annotations

import pytest

from tests.support.signed import Repository
from tests.support.signing import Signer


@pytest.fixture(scope="session")
def signers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Signer]:
    """A key pair of each kind, and one more of somebody else."""
    folder = tmp_path_factory.mktemp("keys")
    kinds = ("ec", "rsa", "ed", "p384", "p521", "koblitz", "short")
    made = {kind: Signer(folder, kind) for kind in kinds}
    return made | {"stranger": Signer(folder, "ec", "stranger")}


@pytest.fixture
def repository() -> Repository:
    return Repository()
