"""The user's terminal: raw mode, size, and the keys that detach."""

from __future__ import annotations

import os

from boxwood.cli.errors import CliError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    # What tcgetattr(3) fills: four flags, two speeds, the control characters.
    _Attributes = list[Any]

# Docker's default, ctrl-p ctrl-q.
DEFAULT_DETACH_KEYS = "ctrl-p,ctrl-q"


class RawTerminal:
    """Puts a terminal into raw mode for the time of a `with`; does nothing for what is none."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._saved: _Attributes | None = None

    def __enter__(self) -> None:
        if os.isatty(self._fd):
            import termios

            self._saved = termios.tcgetattr(self._fd)
            termios.tcsetattr(self._fd, termios.TCSANOW, _raw(termios.tcgetattr(self._fd)))

    def __exit__(self, *exc: object) -> None:
        if self._saved is not None:
            import termios

            # What was typed and not read belongs to whoever reads next: drain, do not flush.
            termios.tcsetattr(self._fd, termios.TCSADRAIN, self._saved)
            self._saved = None


def _raw(attributes: _Attributes) -> _Attributes:
    """The attributes of cfmakeraw(3), but output and control characters as they were."""
    import termios as t

    iflag, oflag, cflag, lflag, ispeed, ospeed, cc = attributes
    iflag &= ~(t.IGNBRK | t.BRKINT | t.PARMRK | t.ISTRIP | t.INLCR | t.IGNCR | t.ICRNL | t.IXON)
    oflag &= ~t.OPOST
    lflag &= ~(t.ECHO | t.ECHONL | t.ICANON | t.ISIG | t.IEXTEN)
    cflag = (cflag & ~(t.CSIZE | t.PARENB)) | t.CS8
    cc[t.VMIN], cc[t.VTIME] = 1, 0
    return [iflag, oflag, cflag, lflag, ispeed, ospeed, cc]


def size(fd: int) -> tuple[int, int] | None:
    """The terminal's (rows, columns); None for what is none or does not know."""
    try:
        columns, rows = os.get_terminal_size(fd)
    except OSError:
        return None
    return (rows, columns) if rows and columns else None


def parse_detach_keys(text: str) -> bytes:
    """The bytes of `ctrl-p,ctrl-q`. Raises CliError for what is no key."""
    return bytes(_key(name) for name in text.split(",")) if text else b""


def _key(name: str) -> int:
    if len(name) == 1 and name.isascii():
        return ord(name)
    letter = name[5:].upper() if name.lower().startswith("ctrl-") else ""
    if len(letter) == 1 and letter in "@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_":
        return ord(letter) - 64
    raise CliError(f"invalid detach keys provided: Unknown character: '{name}'", 1)


class EscapeScanner:
    """Looks for the detach keys in what is typed, holding back what may be their beginning."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._held = 0
        self.found = False

    def feed(self, data: bytes) -> bytes:
        """What of `data` (and of what was held) is to be passed on; `found` when they came."""
        if not self._keys:
            return data
        out = bytearray()
        for byte in data:
            if byte == self._keys[self._held]:
                self._held += 1
                if self._held == len(self._keys):
                    self.found = True
                    break
                continue
            out += self._keys[: self._held]
            self._held = int(byte == self._keys[0])
            out += b"" if self._held else bytes((byte,))
        if self._held == len(self._keys):
            self._held = 0
        return bytes(out)
