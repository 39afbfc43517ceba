"""The few calls of libseccomp that compile a filter, through ctypes.

Probed once. PyPI has no binding that could be a dependency; the library is in every distribution.
"""

from __future__ import annotations

import ctypes
import os
from ctypes import POINTER, c_char_p, c_int, c_uint, c_uint32, c_uint64, c_void_p
from functools import lru_cache

from boxwood.errors import InvalidArgument, Unavailable

_SONAME = "libseccomp.so.2"
MISSING = f"{_SONAME} is not there: install the package libseccomp2"

# scmp_filter_attr of seccomp.h
_ATTR_OPTIMIZE = 8
_BINARY_TREE = 2
_EACCES, _EEXIST, _EDOM = 13, 17, 33

COMPARE = {
    "SCMP_CMP_NE": 1,
    "SCMP_CMP_LT": 2,
    "SCMP_CMP_LE": 3,
    "SCMP_CMP_EQ": 4,
    "SCMP_CMP_GE": 5,
    "SCMP_CMP_GT": 6,
    "SCMP_CMP_MASKED_EQ": 7,
}


class _Argument(ctypes.Structure):
    """struct scmp_arg_cmp."""

    _fields_ = (("arg", c_uint), ("op", c_int), ("a", c_uint64), ("b", c_uint64))


class _Version(ctypes.Structure):
    """struct scmp_version."""

    _fields_ = (("major", c_uint), ("minor", c_uint), ("micro", c_uint))


_SIGNATURES = (
    ("seccomp_init", (c_uint32,), c_void_p),
    ("seccomp_release", (c_void_p,), None),
    ("seccomp_arch_resolve_name", (c_char_p,), c_uint32),
    ("seccomp_arch_add", (c_void_p, c_uint32), c_int),
    ("seccomp_arch_remove", (c_void_p, c_uint32), c_int),
    ("seccomp_arch_native", (), c_uint32),
    ("seccomp_attr_set", (c_void_p, c_int, c_uint32), c_int),
    ("seccomp_syscall_resolve_name", (c_char_p,), c_int),
    ("seccomp_syscall_resolve_name_arch", (c_uint32, c_char_p), c_int),
    (
        "seccomp_rule_add_array",
        (c_void_p, c_uint32, c_int, c_uint, POINTER(_Argument)),
        c_int,
    ),
    ("seccomp_export_bpf", (c_void_p, c_int), c_int),
    ("seccomp_version", (), POINTER(_Version)),
)


class Library:
    """The loaded library."""

    def __init__(self) -> None:
        self._lib = ctypes.CDLL(_SONAME)
        for name, arguments, result in _SIGNATURES:
            function = getattr(self._lib, name)
            function.argtypes, function.restype = arguments, result
        version = self._lib.seccomp_version().contents
        self.version = f"{version.major}.{version.minor}.{version.micro}"

    def architecture(self, token: str) -> int:
        """Return the number of ``SCMP_ARCH_X86_64``.

        Raises:
            InvalidArgument: the library does not know it.
        """
        number = int(
            self._lib.seccomp_arch_resolve_name(
                token.removeprefix("SCMP_ARCH_").lower().encode("ascii", "replace")
            )
        )
        if number == 0:
            raise InvalidArgument(f"seccomp: {token}: unknown architecture")
        return number

    def native(self) -> int:
        """Return the number of the architecture we run on."""
        return int(self._lib.seccomp_arch_native())

    def number(self, architecture: int, name: str) -> int:
        """Return the number of a call there; negative: it has none that the library knows."""
        return int(
            self._lib.seccomp_syscall_resolve_name_arch(
                architecture, name.encode("ascii", "replace")
            )
        )

    def compile(self, default: int, architectures: list[int], rules: list[Rule]) -> bytes:
        """Return the filter as an array of ``struct sock_filter``.

        Raises:
            InvalidArgument: a rule that the library refuses.
        """
        context = self._lib.seccomp_init(default)
        if not context:
            raise InvalidArgument(f"seccomp: default action {default:#x}: refused by libseccomp")
        try:
            self._fill(context, architectures, rules)
            return self._export(context)
        finally:
            self._lib.seccomp_release(context)

    def _fill(self, context: int, architectures: list[int], rules: list[Rule]) -> None:
        native = self.native()
        for number in architectures:
            self._check(self._lib.seccomp_arch_add(context, number), "architecture", (_EEXIST,))
        if native not in architectures:
            self._check(self._lib.seccomp_arch_remove(context, native), "architecture", ())
        # Calls are found by bisection: a hot call costs some ten instructions, not hundreds.
        self._lib.seccomp_attr_set(context, _ATTR_OPTIMIZE, _BINARY_TREE)
        for name, action, arguments in rules:
            number = self._lib.seccomp_syscall_resolve_name(name.encode("ascii", "replace"))
            if number == -1:
                continue  # newer than the library: see seccomp._newer
            array = (_Argument * len(arguments))(*(_Argument(*one) for one in arguments))
            answer = self._lib.seccomp_rule_add_array(
                context, action, number, len(arguments), array
            )
            # EACCES: the rule says what the default says. EDOM: no such call on any of these
            # architectures. EEXIST: said twice.
            self._check(answer, name, (_EACCES, _EEXIST, _EDOM))

    @staticmethod
    def _check(answer: int, what: str, harmless: tuple[int, ...]) -> None:
        if answer < 0 and -answer not in harmless:
            raise InvalidArgument(f"seccomp: {what}: {os.strerror(-answer)}")

    def _export(self, context: int) -> bytes:
        # Before 2.6 the library writes to a descriptor only.
        fd = os.memfd_create("seccomp", os.MFD_CLOEXEC)
        try:
            self._check(self._lib.seccomp_export_bpf(context, fd), "export", ())
            size = os.fstat(fd).st_size
            return os.pread(fd, size, 0)
        finally:
            os.close(fd)


Rule = tuple[str, int, list[tuple[int, int, int, int]]]
"""Name of the call, action word, arguments as (index, operator, a, b)."""


@lru_cache(maxsize=1)
def _load() -> Library | None:
    try:
        return Library()
    except (OSError, AttributeError):
        return None


def missing() -> str:
    """Return why filters cannot be compiled; empty if they can."""
    return "" if _load() is not None else MISSING


def library() -> Library:
    """Return the library.

    Raises:
        Unavailable: it is not installed.
    """
    loaded = _load()
    if loaded is None:
        raise Unavailable(f"seccomp: compile: {MISSING}, or run with seccomp=unconfined")
    return loaded
