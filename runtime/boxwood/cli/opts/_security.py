"""`--security-opt`: profiles are read here and sent along."""

from __future__ import annotations

from boxwood.cli.opts._errors import OptError, quoted

MAX_PROFILE = 16 << 20  # bytes of a seccomp profile
UNCONFINED_PATHS = "systempaths=unconfined"


def security_options(options: list[str]) -> list[str] | None:
    """The options as the daemon takes them; None when there are none.

    A seccomp profile's file is replaced by its content. `systempaths=unconfined`, which the
    request says in other fields, is left away. Raises OptError.
    """
    if not options:
        return None
    return [_option(text) for text in options if text != UNCONFINED_PATHS]


def _option(text: str) -> str:
    key, found, value = text.partition("=")
    if not found:
        key, found, value = text.partition(":")
    if not value and key != "no-new-privileges":
        raise OptError(f"Invalid --security-opt: {quoted(text)}")
    if key != "seccomp" or value in ("builtin", "unconfined"):
        return text
    return "seccomp=" + _profile(value)


def _profile(path: str) -> str:
    """The JSON of a profile without its white space."""
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(MAX_PROFILE + 1)
    except (OSError, UnicodeDecodeError) as error:
        verb = "read" if isinstance(error, IsADirectoryError) else "open"
        cause = f"{verb} {path}: {(getattr(error, 'strerror', '') or str(error)).lower()}"
        raise OptError(f"opening seccomp profile ({path}) failed: {cause}") from None
    import json

    try:
        if len(text) > MAX_PROFILE:
            raise ValueError("file too large")
        json.loads(text)
    except (ValueError, RecursionError) as error:
        raise OptError(f"compacting json for seccomp profile ({path}) failed: {error}") from None
    return _compact(text)


def _compact(text: str) -> str:
    """Valid JSON without white space between its tokens; nothing else changes."""
    out = []
    for at, part in enumerate(_outside_and_inside(text)):
        out.append(part if at % 2 else "".join(part.split()))
    return "".join(out)


def _outside_and_inside(text: str) -> list[str]:
    """Pieces in turn outside and inside of strings, quotes with the strings."""
    pieces = []
    at = 0
    while True:
        start = text.find('"', at)
        if start < 0:
            pieces.append(text[at:])
            return pieces
        end = start + 1
        while text[end] != '"':
            end += 2 if text[end] == "\\" else 1
        pieces += [text[at:start], text[start : end + 1]]
        at = end + 1
