"""The launch program's binary form: what one side writes the other reads, and nothing else."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxwood_ext import launch, program, protocol, wire

text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)
VALUES = {
    wire.U64: st.integers(0, 2**64 - 1),
    wire.I64: st.integers(-(2**63), 2**63 - 1),
    wire.STR: text,
    wire.BYTES: st.binary(max_size=80),
    wire.LIST: st.lists(text, max_size=6).map(tuple),
    wire.SLOT: st.integers(0, wire.MAX_SLOTS - 1),
}


def item(op: wire.Operation) -> st.SearchStrategy[tuple[wire.Value, ...]]:
    return st.tuples(st.just(op.name), *[VALUES[kind] for _, kind in op.args])


def ops(parent: bool) -> st.SearchStrategy[list[tuple[wire.Value, ...]]]:
    rows = [op for op in program.TABLE if op.parent is parent and op.name != "exec"]
    return st.lists(st.one_of([item(op) for op in rows]), max_size=8)


wellformed = st.builds(lambda first, then: [*first, *then, ("exec",)], ops(True), ops(False))


@given(wellformed)
def test_what_is_encoded_is_decoded_and_accepted(items: list[tuple[wire.Value, ...]]) -> None:
    data = program.encode(items)
    assert [(op.name, *op.values) for op in program.decode(data)] == items
    assert launch.check_program(data, wire.MAX_SLOTS)
    assert program.render(data).count("\n") >= len(items)


@given(wellformed, st.data())
def test_damaged_programs_are_judged_alike(
    items: list[tuple[wire.Value, ...]], data: st.DataObject
) -> None:
    damaged = bytearray(program.encode(items))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        damaged[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.one_of(st.just(len(damaged)), st.integers(0, len(damaged))))
    assert_same_verdict(bytes(damaged[:cut]))


@given(st.binary(max_size=200))
def test_noise_is_judged_alike(noise: bytes) -> None:
    assert_same_verdict(noise)
    header = struct.pack("<IHHII", program.MAGIC, program.VERSION, 0, 3, 16 + len(noise))
    assert_same_verdict(header + noise)


def assert_same_verdict(data: bytes) -> None:
    """C accepts what Python decodes, if it is in the order that a launch needs."""
    try:
        decoded = program.decode(data)
    except program.ProgramError:
        assert not launch.check_program(data, wire.MAX_SLOTS)
        return
    names = [op.name for op in decoded]
    parents = [program.BY_NAME[name].parent for name in names]
    ordered = parents == sorted(parents, reverse=True) and names.count("exec") == 1
    assert launch.check_program(data, wire.MAX_SLOTS) == (ordered and names[-1] == "exec")


@pytest.mark.parametrize("items", [
    [("nope",)],
    [()],
    [("hostname",)],
    [("hostname", "a", "b")],
    [("hostname", 5)],
    [("hostname", b"bytes")],
    [("hostname", "a\0b")],
    [("hostname", "x" * 131072)],
    [("namespaces", -1)],
    [("namespaces", 2**64)],
    [("oom_score_adj", 2**63)],
    [("root", 253)],
    [("env", "PATH=x")],
    [("env", ["x"] * 4097)],
    [("env", [5])],
    [("seccomp", "text", 0)],
    [("env", ["x" * 100_000] * 11)],
    [("exec",)] * 4097,
])  # fmt: skip
def test_bounds_of_encode(items: list[tuple[wire.Value, ...]]) -> None:
    with pytest.raises(program.ProgramError):
        program.encode(items)


def test_codes_and_names_are_unique() -> None:
    for table in (program.TABLE, protocol.TABLE):
        assert len({op.code for op in table}) == len({op.name for op in table}) == len(table)
        assert all(len(op.args) <= wire.MAX_ARGS and op.doc for op in table)


def test_surrogates_travel() -> None:
    """Paths that are not UTF-8 arrive as their bytes."""
    data = program.encode([("hostname", b"\xff\xfe".decode("utf-8", "surrogateescape"))])
    assert b"\xff\xfe" in data
    assert program.decode(data)[0].values[0] == "\udcff\udcfe"


def test_render_is_for_people() -> None:
    data = program.encode([
        ("namespaces", program.CLONE_NEWNS | program.CLONE_NEWPID),
        ("mount", "tmpfs", "tmpfs", "/dev", 0, program.ATTR_NOSUID, program.MS_PRIVATE,
         ["mode=755"]),
        ("mkdir", "/run", 0o755, 0, 0),
        ("seccomp", b"12345678", 0),
        ("exec",),
    ])  # fmt: skip
    assert program.render(data) == (
        "   0  namespaces(flags=newns|newpid)\n"
        "   1  mount(fstype='tmpfs', source='tmpfs', dest='/dev', flags=0, attr=nosuid, "
        "propagation=private, options=['mode=755'])\n"
        "   2  mkdir(path='/run', mode=0o755, uid=0, gid=0)\n"
        "   3  seccomp(filter=<8 bytes>, flags=0)\n"
        "   4  exec()\n"
    )


@given(st.one_of([item(op) for op in protocol.TABLE]))
def test_messages_travel(message: tuple[wire.Value, ...]) -> None:
    op = protocol.decode(protocol.encode(*message))
    assert (op.name, *op.values) == message


@given(st.binary(max_size=100))
def test_noise_is_no_message(noise: bytes) -> None:
    with pytest.raises(program.ProgramError):
        protocol.decode(noise)
