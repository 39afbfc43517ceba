"""libnftables in this process, through ctypes: one transaction for each call.

No process is started, and a change of some elements takes 0.1 ms. The library is Debian's
libnftables1 (1.0.6 or newer, which knows no ``destroy``); PyPI has no binding.
"""

from __future__ import annotations

import ctypes
import json
from ctypes import c_char_p, c_int, c_uint, c_uint32, c_void_p
from functools import lru_cache
from typing import Any, Final

SONAME: Final = "libnftables.so.1"
MISSING: Final = f"{SONAME} is not there: install the package libnftables1"

# nftables/libnftables.h
_OUTPUT_JSON = 1 << 4
_OUTPUT_NUMERIC = 1 << 7 | 1 << 8 | 1 << 9  # protocols, priorities, symbols

_SIGNATURES = (
    ("nft_ctx_new", (c_uint32,), c_void_p),
    ("nft_ctx_free", (c_void_p,), None),
    ("nft_ctx_buffer_output", (c_void_p,), c_int),
    ("nft_ctx_buffer_error", (c_void_p,), c_int),
    ("nft_ctx_get_output_buffer", (c_void_p,), c_char_p),
    ("nft_ctx_get_error_buffer", (c_void_p,), c_char_p),
    ("nft_ctx_output_set_flags", (c_void_p, c_uint), None),
    ("nft_run_cmd_from_buffer", (c_void_p, c_char_p), c_int),
)


class NftError(OSError):
    """The kernel, or the library, refused a transaction; nothing of it was done."""


@lru_cache(maxsize=1)
def library() -> ctypes.CDLL:
    """Load the library.

    Raises:
        NftError: it is not installed (:data:`MISSING`).
    """
    try:
        loaded = ctypes.CDLL(SONAME)
    except OSError as error:
        raise NftError(MISSING) from error
    for name, arguments, result in _SIGNATURES:
        function = getattr(loaded, name)
        function.argtypes, function.restype = arguments, result
    return loaded


class Nft:
    """A context: it works in the network namespace of the thread that made it.

    One thread at a time; the GIL is let go while the library works.
    """

    def __init__(self) -> None:
        self._context: int | None = None
        self._library = library()
        self._context = self._library.nft_ctx_new(0)
        if not self._context:
            raise NftError("nft_ctx_new: no memory, or no netfilter in this kernel")
        self._library.nft_ctx_buffer_output(self._context)
        self._library.nft_ctx_buffer_error(self._context)

    def close(self) -> None:
        """Free the context. Idempotent."""
        context, self._context = self._context, None
        if context:
            self._library.nft_ctx_free(context)

    def __del__(self) -> None:
        self.close()

    def run(self, commands: str) -> None:
        """Carry out commands in nft's language, all of them or none.

        Raises:
            NftError: with the library's words.
        """
        self._run(commands, 0)

    def query(self, command: str) -> list[dict[str, Any]]:
        """Return the objects that a ``list`` command tells of, as nft's JSON has them.

        Raises:
            NftError: there is no such thing.
        """
        output = self._run(command, _OUTPUT_JSON | _OUTPUT_NUMERIC)
        found: list[dict[str, Any]] = json.loads(output)["nftables"] if output else []
        return found

    def _run(self, commands: str, flags: int) -> bytes:
        if self._context is None:
            raise NftError("the context is closed")
        self._library.nft_ctx_output_set_flags(self._context, flags)
        status = self._library.nft_run_cmd_from_buffer(self._context, commands.encode())
        output = self._library.nft_ctx_get_output_buffer(self._context) or b""
        words = self._library.nft_ctx_get_error_buffer(self._context) or b""
        if status != 0:
            raise NftError(_first_words(words.decode("utf-8", "replace")))
        return bytes(output)


def _first_words(text: str) -> str:
    """Return the error's own line and what it points at."""
    lines = [line for line in text.splitlines() if line.strip(" ^~")]
    return "nft: " + ": ".join(line.strip() for line in lines[:2]) if lines else "nft: refused"
