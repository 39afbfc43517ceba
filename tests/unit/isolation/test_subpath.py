"""A part of a volume is bound by what is found beneath it, never by a path of the host."""

from __future__ import annotations

from boxwood.drivers.isolation import SUBPATH
from boxwood_ext import program as p
from boxwood_plugins.isolation.native.mounts import MountCompiler


def compiled(*options: str) -> MountCompiler:
    compiler = MountCompiler(3, cgroup_binds=None)
    mount = {"destination": "/p", "type": "bind", "source": "/vol", "options": options}
    compiler.add([mount])
    return compiler


def test_a_part_goes_through_a_slot() -> None:
    found = compiled("rbind", "rprivate", f"{SUBPATH}a/b")
    assert found.sources == [("source_beneath", 3, "/vol", "a/b", p.F_RECURSIVE)]
    assert found.ops[0][:3] == ("bind_fd", 3, "/p")
    assert found.next_slot == 4


def test_without_one_the_source_is_opened_where_it_is_bound() -> None:
    found = compiled("rbind", "rprivate")
    assert found.sources == []
    assert found.ops[0][:3] == ("bind", "/vol", "/p")
