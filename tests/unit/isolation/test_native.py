"""The native driver's compilers: documents to operations, rules to lines and to eBPF."""

from __future__ import annotations

import itertools
import struct
from typing import Any

import pytest

from boxwood.errors import InvalidArgument, Unsupported
from boxwood.execution.spec import ResolvedUser, SpecDefaults, build_spec
from boxwood.execution.spec.devices import DEFAULT_RULES, PRIVILEGED_RULES
from boxwood.model.config import HostConfig
from boxwood_ext import program as p
from boxwood_plugins.isolation.native import device_filter, device_rules
from boxwood_plugins.isolation.native.compiler import (
    Slots,
    compile_container,
    compile_exec,
    mask_of,
)
from boxwood_plugins.isolation.native.driver import group_path
from boxwood_plugins.isolation.native.groups1 import discover
from boxwood_plugins.isolation.native.groups2 import scale
from boxwood_plugins.isolation.native.mounts import MountCompiler, parse_options
from boxwood_plugins.isolation.native.seccomp import Filter
from tests.unit.isolation.values import make_container, make_machine

FILTER = Filter(b"\x06\0\0\0\0\0\xff\x7f", 4)


def compiled(
    host: HostConfig | None = None, *, edit: Any = None, **more: Any
) -> list[tuple[Any, ...]]:
    machine = make_machine(cgroup_version=more.pop("version", 1))
    spec = build_spec(
        make_container(host, **more.pop("config", {})),
        user=more.pop("user", ResolvedUser()),
        daemon=SpecDefaults(machine=machine),
    )
    if edit is not None:
        edit(spec)
    slots = more.pop("slots", Slots(root=0, tasks=(1, 2), total=3))
    ops = compile_container(
        spec,
        slots,
        name="x",
        seccomp=more.pop("seccomp", FILTER),
        cgroup_binds=[("pids", "/g/pids")],
        **more,
    )
    p.encode(ops)
    return ops


def names(ops: list[tuple[Any, ...]]) -> list[str]:
    return [op[0] for op in ops]


def test_the_order_of_operations() -> None:
    found = names(compiled())
    order = [
        "namespaces",
        "cgroup_tasks",
        "propagation",
        "root",
        "mount",
        "mknod",
        "symlink",
        "stdio",
        "mask",
    ]
    order += [
        "readonly",
        "pivot",
        "cwd",
        "groups",
        "gid",
        "bounding",
        "uid",
        "seccomp",
        "env",
        "command",
        "exec",
    ]
    places = [found.index(name) for name in order]
    assert places == sorted(places)
    assert found[-1] == "exec"
    # what needs a capability of the first set must be over before the second
    last = len(found) - 1 - found[::-1].index("capabilities")
    assert found.index("seccomp") < last < found.index("env")
    assert max(
        i for i, name in enumerate(found) if name in ("mount", "bind", "mknod")
    ) < found.index("mask")


def test_the_filter_is_last_when_no_privilege_is_needed() -> None:
    found = names(compiled(HostConfig(network_mode="none", security_opt=("no-new-privileges",))))
    assert found[-3:] == ["no_new_privileges", "seccomp", "exec"]
    assert found.count("capabilities") == 1
    assert "seccomp" not in names(compiled(seccomp=None))


def test_a_user_keeps_nothing() -> None:
    (last,) = [op for op in compiled(user=ResolvedUser(uid=5)) if op[0] == "capabilities"][-1:]
    assert last == ("capabilities", 0, 0, 0, 0)
    (last,) = [op for op in compiled() if op[0] == "capabilities"][-1:]
    assert last == ("capabilities", 0xA80425FB, 0xA80425FB, 0, 0)
    assert ("bounding", 0xA80425FB) in compiled()


def test_namespaces_made_and_joined() -> None:
    def flags(ops: list[tuple[Any, ...]]) -> int:
        return int(next(op[1] for op in ops if op[0] == "namespaces"))

    every = p.CLONE_NEWNS | p.CLONE_NEWPID | p.CLONE_NEWIPC | p.CLONE_NEWUTS | p.CLONE_NEWNET
    assert flags(compiled()) == every
    ops = compiled(version=2, slots=Slots(root=0, group=1, total=2))
    assert ("cgroup2", 1) in ops
    assert ("unshare", p.CLONE_NEWCGROUP) in ops

    def join(spec: dict[str, Any]) -> None:
        spec["linux"]["namespaces"] = [{"type": "mount"}, {"type": "network", "path": "/x"}]

    ops = compiled(
        edit=join, slots=Slots(root=0, tasks=(1,), namespaces=((2, p.CLONE_NEWNET),), total=3)
    )
    assert flags(ops) == p.CLONE_NEWNS
    assert ("join", 2, p.CLONE_NEWNET) in ops
    assert "loopback" not in names(ops)

    def none(spec: dict[str, Any]) -> None:
        spec["linux"]["namespaces"] = []

    with pytest.raises(Unsupported):
        compiled(edit=none)


def test_a_terminal_and_an_init() -> None:
    ops = compiled(HostConfig(console_size=(24, 80)), config={"tty": True}, init=True)
    assert ("console", 0, 24, 80, p.F_CONSOLE_BIND) in ops
    assert "stdio" not in names(ops)
    (command,) = [op for op in ops if op[0] == "command"]
    assert command[1][:2] == ("/sbin/docker-init", "--")
    (bind,) = [op for op in ops if op[0] == "bind" and op[2] == "/sbin/docker-init"]
    assert bind[4] & p.ATTR_RDONLY


@pytest.mark.parametrize(
    ("place", "key", "value"),
    [
        ("process", "apparmorProfile", "mine"),
        ("process", "selinuxLabel", "x"),
        ("linux", "mountLabel", "x"),
        ("linux", "intelRdt", {"closID": "x"}),
        ("process", "ioPriority", {"class": "x"}),
        ("", "hooks", {"poststop": [{"path": "/x"}]}),
    ],
)
def test_what_is_not_served_is_refused_by_name(place: str, key: str, value: object) -> None:
    def edit(spec: dict[str, Any]) -> None:
        (spec[place] if place else spec)[key] = value

    with pytest.raises(Unsupported, match=key):
        compiled(edit=edit)


def test_exec_has_no_mounts() -> None:
    container = make_container()
    spec = build_spec(container, user=ResolvedUser(), daemon=SpecDefaults(machine=make_machine()))
    slots = Slots(root=-1, tasks=(1,), namespaces=((0, p.CLONE_NEWNS),), total=2)
    ops = compile_exec(spec, spec["process"], slots, name="x", seccomp=FILTER)
    p.encode(ops)
    assert not {"mount", "bind", "pivot", "root", "mknod", "mask", "namespaces"} & set(names(ops))
    assert next(op for op in ops if op[0] == "cwd")[2] == 0


@pytest.mark.parametrize("namespace", ["nonsense", ""])
def test_unknown_words(namespace: str) -> None:
    def edit(spec: dict[str, Any]) -> None:
        spec["linux"]["namespaces"].append({"type": namespace})

    with pytest.raises(InvalidArgument):
        compiled(edit=edit)


def test_capability_masks() -> None:
    assert mask_of(("CAP_CHOWN", "CAP_SYS_ADMIN", "CAP_UNKNOWN")) == 1 | 1 << 21


def test_mount_options() -> None:
    found = parse_options(("rbind", "rro", "nosuid", "rshared", "size=1m"))
    assert (found.bind, found.recursive, found.attr_recursive) == (True, True, True)
    assert found.attr_set == p.ATTR_RDONLY | p.ATTR_NOSUID
    assert found.propagation == p.MS_SHARED | p.MS_REC
    assert found.data == ("size=1m",)
    found = parse_options(("ro", "rw", "noatime", "relatime"))
    assert (found.attr_set, found.attr_clear & p.ATTR_RDONLY) == (0, p.ATTR_RDONLY)


@pytest.mark.parametrize(
    ("destination", "kind", "source"),
    [
        ("relative", "bind", "/a"),
        ("/a/../b", "bind", "/a"),
        ("/", "bind", "/a"),
        ("/.", "tmpfs", "tmpfs"),
        ("/proc", "tmpfs", "tmpfs"),
        ("/proc/", "bind", "/etc"),
        ("/proc/self/attr", "bind", "/etc"),
        ("//proc//sys", "bind", "/etc"),
    ],
)
def test_destinations_that_are_refused(destination: str, kind: str, source: str) -> None:
    compiler = MountCompiler(5, cgroup_binds=None)
    with pytest.raises(InvalidArgument):
        compiler.add([{"destination": destination, "type": kind, "source": source, "options": ()}])


def test_destinations_below_proc_that_are_not() -> None:
    compiler = MountCompiler(5, cgroup_binds=None)
    compiler.add([{"destination": "/proc/cpuinfo", "type": "bind", "source": "/x", "options": ()}])
    compiler.add(
        [{"destination": "/proc", "type": "bind", "source": "/proc", "options": ("rbind",)}]
    )
    assert names(compiler.ops) == ["bind", "bind"]


@pytest.mark.parametrize("cover", ["/sys", "/sys/fs/cgroup"])
def test_a_mount_over_the_control_groups(cover: str) -> None:
    compiler = MountCompiler(5, cgroup_binds=[("pids", "/g")])
    groups = {"destination": "/sys/fs/cgroup", "type": "cgroup", "options": ("ro",)}
    below = {"destination": "/sys/fs/cgroup/pids/x", "type": "tmpfs", "options": ()}
    compiler.add([groups, below])
    assert list(compiler.late) == ["/sys/fs/cgroup"]
    compiler.add([{"destination": cover, "type": "tmpfs", "options": ()}])
    assert compiler.late == {}


def test_a_shared_bind_is_opened_before_the_root_is_left() -> None:
    compiler = MountCompiler(5, cgroup_binds=None)
    compiler.add(
        [{"destination": "/a", "type": "bind", "source": "/x", "options": ("rbind", "rslave")}]
    )
    assert compiler.sources == [("source", 5, "/x", p.F_RECURSIVE)]
    assert compiler.ops[0][:3] == ("bind_fd", 5, "/a")
    assert compiler.next_slot == 6


@pytest.mark.parametrize(
    ("path", "good"),
    [
        ("/a/ID", True),
        ("/a/b/ID", True),
        ("/ID", True),
        ("a/ID", False),
        ("/a/../ID", False),
        ("/a", False),
        ("/a//ID", False),
    ],
)
def test_group_paths(path: str, good: bool) -> None:
    spec = {"linux": {"cgroupsPath": path}}
    if good:
        assert group_path(spec, "ID") == path
    else:
        with pytest.raises(InvalidArgument):
            group_path(spec, "ID")
    assert group_path({}, "ID") == "/boxwood/ID"


def test_hierarchies_mounted_together_named_and_read_only() -> None:
    text = """\
25 1 0:1 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid - cgroup cgroup rw,cpu,cpuacct
26 1 0:2 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
27 1 0:3 / /sys/fs/cgroup/pids ro - cgroup cgroup rw,pids
28 1 0:4 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
29 1 0:1 / /elsewhere rw - cgroup cgroup rw,cpu,cpuacct
"""
    found = {one.point.rpartition("/")[2]: one.controllers for one in discover(text)}
    assert found == {"cpu,cpuacct": {"cpu", "cpuacct"}, "systemd": {"name=systemd"}}


def test_weights() -> None:
    shares, blkio = (2, 262_144), (10, 1000)
    assert [scale(value, shares) for value in (0, 2, 1024, 262_144, 1 << 30)] == [
        1,
        1,
        39,
        10_000,
        10_000,
    ]
    assert [scale(value, blkio) for value in (10, 500, 1000)] == [1, 4950, 10_000]


def test_lines_for_version_one() -> None:
    lines = device_rules.lines(device_rules.settle(list(DEFAULT_RULES)))
    assert lines[0] == ("devices.deny", b"a")
    assert ("devices.allow", b"c 1:3 rwm") in lines
    assert ("devices.allow", b"c *:* m") in lines
    assert not [line for name, line in lines[1:] if name != "devices.allow"]
    assert device_rules.lines(device_rules.settle(list(PRIVILEGED_RULES))) == [
        ("devices.allow", b"a")
    ]


class Judge:
    """The kernel's rules for v1, said plainly."""

    def __init__(self, rules: list[dict[str, Any]]) -> None:
        self.allow, self.exceptions = True, {}
        for rule in [*rules, *device_rules.REQUIRED]:
            self.apply(rule)

    def apply(self, rule: dict[str, Any]) -> None:
        access, kind = set(rule.get("access") or "rwm"), rule.get("type", "a")
        key = (rule.get("major", -1), rule.get("minor", -1))
        if kind == "a" and key == (-1, -1) and access == set("rwm"):
            self.allow, self.exceptions = rule["allow"], {}
            return
        for one in "bc" if kind == "a" else kind:
            old = self.exceptions.setdefault((one, *key), set())
            if rule["allow"] == self.allow:
                old -= access
            else:
                old |= access

    def permits(self, kind: str, major: int, minor: int, access: set[str]) -> bool:
        for (k, a, b), have in self.exceptions.items():
            if k == kind and a in (-1, major) and b in (-1, minor):
                if not self.allow and access <= have:
                    return True
                if self.allow and access & have:
                    return False
        return bool(self.allow)


def run_ebpf(code: bytes, kind: str, major: int, minor: int, access: set[str]) -> bool:
    """Interpret the few instructions that a device program is made of."""
    bits = sum({"m": 1, "r": 2, "w": 4}[letter] for letter in access)
    context = struct.pack("<III", bits << 16 | {"b": 1, "c": 2}[kind], major, minor)
    registers, position = [0] * 11, 0
    instructions = list(struct.iter_unpack("<BBhi", code))
    while True:
        op, pair, offset, value = instructions[position]
        position += 1
        to, source = pair & 15, pair >> 4
        if op == 0x61:
            registers[to] = struct.unpack_from("<I", context, offset)[0]
        elif op == 0xB4:
            registers[to] = value
        elif op == 0xBC:
            registers[to] = registers[source]
        elif op == 0x54:
            registers[to] &= value
        elif op == 0x74:
            registers[to] >>= value
        elif op == 0x56:
            position += offset if registers[to] != value else 0
        elif op == 0x16:
            position += offset if registers[to] == value else 0
        elif op == 0x46:
            position += offset if registers[to] & value else 0
        else:
            assert op == 0x95, hex(op)
            return bool(registers[0])


RULES = [
    list(DEFAULT_RULES),
    list(PRIVILEGED_RULES),
    [],
    [
        {"allow": False},
        {"allow": True, "type": "c", "major": 10, "access": "r"},
        {"allow": True, "type": "c", "major": 10, "access": "w"},
    ],
    [
        {"allow": True},
        {"allow": False, "type": "b", "access": "w"},
        {"allow": False, "type": "c", "major": 5, "minor": 1, "access": "rw"},
    ],
    [
        {"allow": False},
        {"allow": True, "type": "a", "access": "m"},
        {"allow": True, "type": "a", "major": 8, "access": "r"},
    ],
    [
        {"allow": False},
        {"allow": True, "type": "b", "major": 8, "access": "rw"},
        {"allow": False, "type": "b", "major": 8, "access": "w"},
    ],
]


@pytest.mark.parametrize("rules", RULES)
def test_both_versions_allow_the_same(rules: list[dict[str, Any]]) -> None:
    judge = Judge(rules)
    code = device_filter.assemble(device_rules.settle(rules))
    asked = [set(word) for size in (1, 2, 3) for word in itertools.combinations("rwm", size)]
    for kind, major, minor, access in itertools.product(
        "bc", (1, 5, 8, 10, 136), (0, 1, 3, 229), asked
    ):
        want = judge.permits(kind, major, minor, access)
        assert run_ebpf(code, kind, major, minor, access) == want, (kind, major, minor, access)
