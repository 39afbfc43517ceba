"""The filters decide as the profiles say: evaluated, instruction by instruction."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from zlib import crc32

import msgspec
import pytest

from boxwood.drivers.isolation import CAPABILITIES
from boxwood.errors import InvalidArgument, Unsupported
from boxwood.execution.spec.capabilities import DEFAULT
from boxwood.execution.spec.seccomp_default import default_profile
from boxwood.execution.spec.seccomp_profile import parse_profile, resolve
from boxwood_plugins.isolation.native import libseccomp
from boxwood_plugins.isolation.native.seccomp import Cache, compile_profile
from tests.support.paths import ROOT
from tests.unit.isolation.bpf_machine import (
    ALLOW,
    AUDIT,
    ENOSYS,
    EPERM,
    X32_BIT,
    Judge,
    number,
    run,
    unpack,
)

pytestmark = pytest.mark.skipif(bool(libseccomp.missing()), reason=libseccomp.missing() or "-")

# The facts that the checkouts of a workshop share lie beside the checkout.
REFERENCE = ROOT.parent / "shared" / "data" / "moby" / "seccomp-default.json"
KERNEL = (6, 1)
CLONE_NEWNS = 0x20000

# Sets that between them switch every condition of the profile on and off.
CAPABILITY_SETS = [
    frozenset(),
    frozenset(DEFAULT),
    frozenset(CAPABILITIES),
    frozenset(CAPABILITIES) - {"CAP_SYS_ADMIN"},
    *(frozenset((*DEFAULT, cap)) for cap in CAPABILITIES if cap not in DEFAULT),
]

ARGUMENTS = sorted(
    {
        value + around
        for value in (0, 8, 38, 39, 40, 0x20000, 0x20008, 0xFFFFFFFF, 0x7E020000, 1 << 32)
        for around in (-1, 0, 1)
        if value + around >= 0
    }
    | {CLONE_NEWNS | 0x11, 0x10000000, (1 << 63) | 0x11, (38 << 32) | 2}
)


def _reference() -> dict[str, object]:
    if not REFERENCE.exists():
        pytest.skip("Docker's own profile (shared/data) is not on this machine")
    return dict(json.loads(REFERENCE.read_text()))


@pytest.mark.parametrize(
    "caps", CAPABILITY_SETS, ids=lambda caps: f"{len(caps)}-{crc32(repr(sorted(caps)).encode()):x}"
)
def test_our_table_decides_as_dockers_profile(caps: frozenset[str]) -> None:
    judge = Judge(_reference(), caps, KERNEL)
    code = unpack(compile_profile(resolve(default_profile(), caps, "x86_64", KERNEL)).program)
    for arch in ("x86_64", "x86", "x32"):
        found = judge.numbers(arch)
        base = X32_BIT if arch == "x32" else 0
        # libseccomp looks at 32 bits where a pointer has 32; the kernel takes no more of these
        wide = [value for value in ARGUMENTS if arch == "x86_64" or value < 1 << 32]
        for call in (*range(base, base + 560), base + 4000):
            conditional = any(rule.get("args") for rule in found.get(call, ()))
            for first, second in (
                itertools.product(wide, (0, CLONE_NEWNS)) if conditional else [(0, 0)]
            ):
                want = judge.decide(found, call, (first, second, 0, 0, 0, 0))
                got = run(code, AUDIT[arch], call, (first, second))
                assert got == want, (arch, call, hex(first), hex(second), hex(got), hex(want))


def test_an_old_kernel_gets_no_ptrace() -> None:
    for kernel, want in (((4, 7), EPERM), ((4, 8), ALLOW), ((5, 0), ALLOW)):
        code = unpack(compile_profile(resolve(default_profile(), (), "x86_64", kernel)).program)
        assert run(code, AUDIT["x86_64"], number("x86_64", "ptrace")) == want


def test_foreign_architecture_is_killed_and_a_skipped_call_is_not_answered_for_the_tracer() -> None:
    code = unpack(compile_profile(resolve(default_profile(), (), "x86_64", KERNEL)).program)
    assert run(code, 0xC000_00B7, 0) & 0xFFFF_0000 in (0, 0x8000_0000)
    assert run(code, AUDIT["x86_64"], 0xFFFF_FFFF) != ENOSYS


def _custom(**changes: object) -> str:
    return json.dumps({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [], **changes})


def _decide(text: str, name: str, *args: int, caps: tuple[str, ...] = ()) -> int:
    profile = resolve(parse_profile(text), caps, "x86_64", KERNEL)
    code = unpack(compile_profile(profile).program)
    return run(code, AUDIT["x86_64"], number("x86_64", name), args)


@pytest.mark.parametrize("name", ["getpid", "mseal"])  # known to libseccomp, and newer than it
@pytest.mark.parametrize(
    ("op", "value", "value_two", "holds"),
    [
        ("NE", 5, 0, lambda x: x != 5),
        ("LT", 5 << 32, 0, lambda x: x < 5 << 32),
        ("LE", (5 << 32) | 7, 0, lambda x: x <= (5 << 32) | 7),
        ("EQ", (5 << 32) | 7, 0, lambda x: x == (5 << 32) | 7),
        ("GE", (5 << 32) | 7, 0, lambda x: x >= (5 << 32) | 7),
        ("GT", (5 << 32) | 7, 0, lambda x: x > (5 << 32) | 7),
        (
            "MASKED_EQ",
            (0xF << 32) | 0xF0,
            (5 << 32) | 0x10,
            lambda x: x & ((0xF << 32) | 0xF0) == (5 << 32) | 0x10,
        ),
    ],
)
def test_every_comparison_over_both_halves(name, op, value, value_two, holds) -> None:
    arg = {"index": 2, "op": f"SCMP_CMP_{op}", "value": value, "valueTwo": value_two}
    rule = {"names": [name], "action": "SCMP_ACT_ALLOW", "args": [arg]}
    text = _custom(syscalls=[rule, {"names": ["removexattrat"], "action": "SCMP_ACT_ALLOW"}])
    profile = resolve(parse_profile(text), (), "x86_64", KERNEL)
    code = unpack(compile_profile(profile).program)
    for high, low in itertools.product(
        (0, 4, 5, 6, 0x15), (0, 4, 5, 6, 7, 8, 0x10, 0x1F, 0xFFFFFFFF)
    ):
        have = high << 32 | low
        want = ALLOW if holds(have) else EPERM
        assert run(code, AUDIT["x86_64"], number("x86_64", name), (0, 0, have)) == want, hex(have)


def test_conditions_default_errno_and_errno_of_a_rule() -> None:
    text = _custom(
        defaultErrnoRet=7,
        syscalls=[
            {
                "names": ["mount"],
                "action": "SCMP_ACT_ALLOW",
                "includes": {"caps": ["CAP_SYS_ADMIN"]},
            },
            {"name": "reboot", "action": "SCMP_ACT_ERRNO", "errnoRet": 9},
            {"names": ["sync"], "action": "SCMP_ACT_ALLOW", "excludes": {"arches": ["amd64"]}},
            {"names": ["read"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "99.0"}},
            {"names": ["mseal"], "action": "SCMP_ACT_ALLOW"},
        ],
    )
    assert _decide(text, "mount") == 0x0005_0007
    assert _decide(text, "mount", caps=("CAP_SYS_ADMIN",)) == ALLOW
    assert _decide(text, "reboot") == 0x0005_0009
    assert _decide(text, "sync") == 0x0005_0007
    assert _decide(text, "read") == 0x0005_0007


def test_two_comparisons_of_one_argument_are_alternatives() -> None:
    args = [{"index": 0, "op": "SCMP_CMP_EQ", "value": value} for value in (1, 2)]
    text = _custom(syscalls=[{"names": ["close"], "action": "SCMP_ACT_ALLOW", "args": args}])
    assert [_decide(text, "close", value) for value in (1, 2, 3)] == [ALLOW, ALLOW, EPERM]


def test_a_denying_list_lets_unknown_calls_through() -> None:
    text = _custom(
        defaultAction="SCMP_ACT_ALLOW",
        syscalls=[{"names": ["chmod"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}],
    )
    profile = resolve(parse_profile(text), (), "x86_64", KERNEL)
    code = unpack(compile_profile(profile).program)
    assert run(code, AUDIT["x86_64"], 9999) == ALLOW
    assert run(code, AUDIT["x86_64"], number("x86_64", "chmod")) == EPERM


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"defaultAction": "SCMP_ACT_NONSENSE"}',
        _custom(architectures=["SCMP_ARCH_X86_64"], archMap=[{"architecture": "SCMP_ARCH_X86"}]),
        _custom(syscalls=[{"action": "SCMP_ACT_ALLOW"}]),
        _custom(syscalls=[{"name": "a", "names": ["b"], "action": "SCMP_ACT_ALLOW"}]),
        _custom(syscalls=[{"names": ["a"], "action": "SCMP_ACT_NOTIFY"}]),
        _custom(
            syscalls=[
                {
                    "names": ["a"],
                    "action": "SCMP_ACT_ALLOW",
                    "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}],
                }
            ]
        ),
        _custom(
            syscalls=[{"names": ["a"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "x"}}]
        ),
        " " * 300_000,
        "[" * 100_000,
    ],
)
def test_what_is_no_profile_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        parse_profile(text)


def test_unknown_architecture_flag_and_listener_are_refused() -> None:
    base = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": []}
    for change, error in (
        ({"architectures": ["SCMP_ARCH_VAX"]}, InvalidArgument),
        ({"flags": ["SECCOMP_FILTER_FLAG_MAGIC"]}, InvalidArgument),
        ({"syscalls": [{"names": ["read"], "action": "SCMP_ACT_NOTIFY"}]}, Unsupported),
    ):
        with pytest.raises(error):
            compile_profile({**base, **change})


def test_a_filter_is_compiled_once_and_a_cut_one_on_disk_is_made_again(
    tmp_path: Path, monkeypatch
) -> None:
    from boxwood_plugins.isolation.native import seccomp

    profile = resolve(default_profile(), DEFAULT, "x86_64", KERNEL)
    made = Cache(tmp_path / "filters").get(profile)
    (stored,) = (tmp_path / "filters").iterdir()
    calls: list[object] = []
    monkeypatch.setattr(seccomp, "compile_profile", lambda p: calls.append(p) or made)
    cache = Cache(tmp_path / "filters")
    assert cache.get(profile) == made
    assert cache.get(msgspec.json.decode(msgspec.json.encode(profile))) == made
    assert calls == []
    stored.write_bytes(stored.read_bytes()[:-8])
    assert Cache(tmp_path / "filters").get(profile) == made
    assert len(calls) == 1


def test_the_default_filter_is_small_enough_to_load_quickly() -> None:
    made = compile_profile(resolve(default_profile(), DEFAULT, "x86_64", KERNEL))
    assert len(made.program) // 8 < 2500
    assert made.flags == 4
