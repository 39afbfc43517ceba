"""Builds the compiled parts of Boxwood; everything else stands in pyproject.toml.

Three things are made here: the Cython extensions of `boxwood_ext`, the static programs (shim and
network helper, in C), and the C headers that all read their constants from, written out of the
tables in `boxwood_ext/program.py`, `protocol.py` and `helper_protocol.py`.

A `.pyx` names the C kernels it needs in its first lines: `# distutils: sources = ext/c/x.c`.
`BOXWOOD_DEBUG=1` builds with the address and undefined-behaviour sanitizers and Cython's None
checks.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
os.chdir(ROOT)  # the sources are named relative to it, by the .pyx files too
C_DIR = Path("ext/c")
PACKAGE = Path("ext/boxwood_ext")
GENERATED = C_DIR / "generated"
# The tables that Python and C share, and the header that each is written to.
HEADERS = {
    "program": "launch_ops.h",
    "protocol": "shim_messages.h",
    "helper_protocol": "helper_messages.h",
    "broker_protocol": "broker_messages.h",
}
BIN = Path("boxwood_ext/bin")
# The static programs, and the C files of each.
PROGRAMS = {
    "boxwood-shim": ["*.c"],
    "boxwood-helper": ["helper/*.c", "decode.c", "message.c"],
    "boxwood-broker": ["broker/*.c", "helper/dns.c", "decode.c", "message.c"],
}
DEBUG = os.environ.get("BOXWOOD_DEBUG", "") not in ("", "0")

WARNINGS = ["-Wall", "-Wextra", "-Wno-unused-parameter"]
SANITIZE = ["-fsanitize=address,undefined", "-fno-omit-frame-pointer"]
EXT_FLAGS = ["-O1", "-g1", *SANITIZE] if DEBUG else ["-O2", "-g0"]
# A static program cannot carry the address sanitizer, so these get the other one, as a trap:
# that needs no library either.
PROGRAM_FLAGS = (
    ["-O1", "-g", "-fsanitize=undefined", "-fsanitize-undefined-trap-on-error"]
    if DEBUG
    else ["-O2", "-s"]
)
# Bounds are checked unless a function says otherwise, with a reviewer's word beside it.
DIRECTIVES = {"language_level": 3, "embedsignature": True, "nonecheck": DEBUG}


def write_headers() -> None:
    """Write the C headers from the tables, touching only those that change."""
    sys.path.insert(0, str(PACKAGE.parent.resolve()))
    GENERATED.mkdir(exist_ok=True)
    for module, name in HEADERS.items():
        text = importlib.import_module(f"boxwood_ext.{module}").c_header()
        header = GENERATED / name
        if not header.exists() or header.read_text() != text:
            header.write_text(text)


def newer(target: Path, sources: list[Path]) -> bool:
    """Is the target there, and younger than every source and than this file?"""
    if not target.exists():
        return False
    made = target.stat().st_mtime
    return all(path.stat().st_mtime <= made for path in [*sources, Path("setup.py")])


def build_program(target: Path, patterns: list[str]) -> None:
    """Compile C files to one static program, unless the target is up to date."""
    sources = sorted(path for pattern in patterns for path in C_DIR.glob(pattern))
    # What lies there may be the other build's: build_py copies the one of the package folder.
    fresh_enough = not DEBUG and newer(target, [*sources, *C_DIR.rglob("*.h")])
    if not sources or fresh_enough:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(target.name + ".new")
    compiler = os.environ.get("CC", "gcc")
    command = [compiler, "-std=gnu11", "-static", *PROGRAM_FLAGS, *WARNINGS]
    command += ["-ffunction-sections", "-fdata-sections", "-Wl,--gc-sections"]
    command += ["-D_GNU_SOURCE", f"-I{C_DIR}", f"-I{GENERATED}", "-o", str(fresh)]
    subprocess.run([*command, *map(str, sources)], check=True)
    # By rename: a running one keeps the file it was started from.
    fresh.rename(target)


def extensions() -> list[Extension]:
    """List one extension for each `.pyx` of the package."""
    found = sorted(PACKAGE.glob("*.pyx"))
    modules = [
        Extension(
            f"boxwood_ext.{path.stem}",
            [str(path)],
            include_dirs=[str(C_DIR), str(GENERATED)],
            depends=[str(header) for header in C_DIR.rglob("*.h")],
            define_macros=[("_GNU_SOURCE", "1")],
            extra_compile_args=["-std=gnu11", *EXT_FLAGS],
            extra_link_args=SANITIZE if DEBUG else ["-s"],
        )
        for path in found
    ]
    build_dir = "build/cython-debug" if DEBUG else "build/cython"
    return list(cythonize(modules, build_dir=build_dir, compiler_directives=DIRECTIVES, quiet=True))


class BuildExt(build_ext):
    """The extensions, and beside them the programs."""

    def run(self) -> None:
        """Build the programs where the extensions go, then the extensions."""
        in_place = self.inplace or getattr(self, "editable_mode", False)
        folder = (Path("ext") if in_place else Path(self.build_lib)) / BIN
        for name, patterns in PROGRAMS.items():
            build_program(folder / name, patterns)
        self.parallel = self.parallel or os.cpu_count()
        super().run()


write_headers()
setup(ext_modules=extensions(), cmdclass={"build_ext": BuildExt})
