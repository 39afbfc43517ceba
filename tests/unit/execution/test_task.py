"""The parts of a task's life that need no container."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

from boxwood.execution.task import remove_directory

ROUNDS = 300
FILES = 20


def test_a_directory_whose_files_go_meanwhile_is_removed(tmp_path: Path) -> None:
    """A shim that ends removes its own socket while the daemon removes the directory."""
    for number in range(ROUNDS):
        folder = tmp_path / str(number)
        folder.mkdir()
        files = [folder / str(name) for name in range(FILES)]
        for file in files:
            file.touch()
        begun = threading.Event()

        def shim(files: list[Path] = files, begun: threading.Event = begun) -> None:
            begun.set()
            for file in files:
                with contextlib.suppress(FileNotFoundError):
                    file.unlink()

        thread = threading.Thread(target=shim)
        thread.start()
        begun.wait()
        remove_directory(folder)
        thread.join()
        assert not folder.exists()


def test_a_directory_that_is_not_there_is_no_error(tmp_path: Path) -> None:
    """It is idempotent."""
    remove_directory(tmp_path / "absent")
