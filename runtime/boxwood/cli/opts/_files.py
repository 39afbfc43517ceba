"""Files of KEY=VALUE lines (`--env-file`, `--label-file`) and single settings."""

from __future__ import annotations

import os

from boxwood.cli.opts._errors import OptError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_FILE = 64 << 20  # bytes; a settings file is read whole


def parse_env(text: str, environ: Mapping[str, str]) -> str:
    """`KEY=VALUE` as it is; a bare KEY with its value in `environ`, or bare where it has none."""
    key, equals, _ = text.partition("=")
    if not key:
        raise OptError(f"invalid environment variable: {text}")
    if equals or key not in environ:
        return text
    return f"{key}={environ[key]}"


def parse_env_file(path: str, environ: Mapping[str, str] | None = None) -> list[str]:
    """The `KEY=VALUE` settings of an environment file, in its order.

    Lines that start with `#` and empty ones are left out, quotes are kept. A bare KEY takes its
    value from `environ` (the process's when None) and is left out where it has none. Raises
    OptError: the file cannot be read, is not UTF-8, a line has no name or a name with spaces.
    """
    known = os.environ if environ is None else environ
    found = []
    for key, value in read_pairs(path):
        if value is not None:
            found.append(f"{key}={value}")
        elif key in known:
            found.append(f"{key}={known[key]}")
    return found


def parse_label_file(path: str) -> list[str]:
    """The `KEY=VALUE` labels of a file; bare keys are left out, as Docker does."""
    return [f"{key}={value}" for key, value in read_pairs(path) if value is not None]


def read_pairs(path: str) -> list[tuple[str, str | None]]:
    """The settings of a file; None for a name without `=`. Raises OptError."""
    pairs: list[tuple[str, str | None]] = []
    for number, raw in enumerate(_lines(path), 1):
        try:
            line = raw.decode().lstrip(" \t")
        except UnicodeDecodeError:
            shown = " ".join(map(str, raw))
            raise OptError(
                f"invalid env file ({path}): invalid utf8 bytes at line {number}: [{shown}]"
            ) from None
        if line and line[0] != "#":
            pairs.append(_pair(line, path))
    return pairs


def _lines(path: str) -> list[bytes]:
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_FILE + 1)
    except IsADirectoryError:
        raise OptError(f"invalid env file ({path}): read {path}: is a directory") from None
    except OSError as error:
        raise OptError(f"open {path}: {(error.strerror or str(error)).lower()}") from None
    if len(data) > MAX_FILE:
        raise OptError(f"invalid env file ({path}): file too large")
    data = data.removeprefix(b"\xef\xbb\xbf")
    return [line.removesuffix(b"\r") for line in data.split(b"\n")]


def _pair(line: str, path: str) -> tuple[str, str | None]:
    key, equals, value = line.partition("=")
    if not key:
        raise OptError(f"invalid env file ({path}): no variable name on line '{line}'")
    if any(char.isspace() for char in key):
        raise OptError(f"invalid env file ({path}): variable '{key}' contains whitespaces")
    return key, value if equals else None
