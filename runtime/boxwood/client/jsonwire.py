"""JSON for the wire, without the price of `import json`.

The standard module imports `re` and with it `enum`, which costs 8 ms, a fifth of what a whole
`boxwood run` may take. Its two C kernels need neither. `json` itself stays the reference: it is
asked whenever a kernel is absent or refuses a document, and so words every error.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

try:
    import _json

    _FAST = True
except ImportError:  # an interpreter without the C kernels
    _FAST = False

# JSON's own white space, RFC 8259 section 2.
_SPACE = " \t\n\r"


class _ScanContext:
    """The attributes the C scanner reads: those of `json.JSONDecoder`'s defaults."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int

    @staticmethod
    def parse_constant(name: str) -> float:
        """Refuse NaN and Infinity, which RFC 8259 does not know."""
        raise ValueError(f"JSON: {name} is not a number")


def loads(data: bytes) -> Any:
    """The value of one UTF-8 JSON document. Raises ValueError."""
    text = data.decode("utf-8")
    if not _FAST:
        return _slow_loads(text)
    start = len(text) - len(text.lstrip(_SPACE))
    try:
        value, end = _SCAN(text, start)
    except (StopIteration, ValueError, SystemError, RecursionError):
        return _slow_loads(text)
    if text[end:].strip(_SPACE):
        return _slow_loads(text)
    return value


def dumps(value: Any) -> bytes:
    """The compact UTF-8 JSON form of `value`. Raises TypeError, ValueError."""
    if not _FAST:
        return _slow_dumps(value)
    text = "".join(_ENCODE(value, 0))
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:  # words of a command line that are not UTF-8: as Go sends them
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace").encode("utf-8")


def _slow_loads(text: str) -> Any:
    import json

    return json.loads(text)


def _slow_dumps(value: Any) -> bytes:
    import json

    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8")


def _refuse(value: object) -> Any:
    raise TypeError(f"JSON: {type(value).__name__} has no form")


_SCAN: Callable[[str, int], tuple[Any, int]]
_ENCODE: Callable[[Any, int], tuple[str, ...]]
if _FAST:
    _SCAN = _json.make_scanner(_ScanContext)  # type: ignore[arg-type]
    _ENCODE = _json.make_encoder(
        None, _refuse, _json.encode_basestring, None, ":", ",", False, False, False
    )
