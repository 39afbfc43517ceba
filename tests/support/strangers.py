"""Plugins as strangers install them: modules and their metadata in a folder on the path."""

from __future__ import annotations

import textwrap
import tomllib
from collections.abc import Mapping
from pathlib import Path


def install(folder: Path, name: str, modules: Mapping[str, str], points: str) -> None:
    """Write what an installer would: modules, and a `.dist-info` that names entry points.

    Args:
        folder: to be put on PYTHONPATH; may hold several distributions.
        name: of the distribution.
        modules: source text by module name.
        points: the text of `entry_points.txt`.
    """
    info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(textwrap.dedent(points))
    for module, source in modules.items():
        (folder / f"{module}.py").write_text(textwrap.dedent(source))


def install_package(folder: Path, package: Path) -> None:
    """The same for a package with a `pyproject.toml`, as its build would."""
    project = tomllib.loads((package / "pyproject.toml").read_text())
    groups = project["project"]["entry-points"]
    points = "".join(
        f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in entries.items())
        for group, entries in groups.items()
    )
    modules = project["tool"]["setuptools"]["py-modules"]
    sources = {module: (package / f"{module}.py").read_text() for module in modules}
    install(folder, project["project"]["name"], sources, points)
