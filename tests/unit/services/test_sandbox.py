"""The three files of a sandbox."""

from __future__ import annotations

from pathlib import Path

import pytest

from boxwood.errors import InvalidArgument
from boxwood.execution import sandbox
from boxwood.execution.sandbox import Identity


def test_hosts() -> None:
    text = sandbox.hosts(
        Identity(
            hostname="web",
            domainname="example.org",
            addresses=("10.0.0.2",),
            extra_hosts=("db:10.0.0.3", "six=[fe80::1]"),
        )
    )
    lines = text.splitlines()
    assert lines[0] == "127.0.0.1\tlocalhost"
    assert "10.0.0.3\tdb" in lines
    assert "fe80::1\tsix" in lines
    assert lines[-1] == "10.0.0.2\tweb.example.org web"


@pytest.mark.parametrize("entry", ["", "db", ":1.2.3.4", "db:", "d b:1.2.3.4", "db:1\n2"])
def test_bad_extra_hosts(entry: str) -> None:
    with pytest.raises(InvalidArgument):
        sandbox.split_host(entry)


def test_resolv_conf(monkeypatch: pytest.MonkeyPatch) -> None:
    host = "# comment\nnameserver 127.0.0.53\nnameserver 192.0.2.1\nsearch lan\noptions edns0\n"
    monkeypatch.setattr(sandbox, "_host_file", lambda _: host)
    assert sandbox.resolv_conf(Identity(hostname="h")) == (
        "nameserver 192.0.2.1\nsearch lan\noptions edns0\n"
    )
    assert "127.0.0.53" in sandbox.resolv_conf(Identity(hostname="h", host_network=True))
    own = Identity(hostname="h", nameservers=("1.1.1.1",), search=("a", "b"), options=("ndots:1",))
    assert sandbox.resolv_conf(own) == "nameserver 1.1.1.1\nsearch a b\noptions ndots:1\n"


def test_files_are_written_only_when_they_change(tmp_path: Path) -> None:
    sandbox.write_files(tmp_path, Identity(hostname="one"))
    inode = (tmp_path / "hostname").stat()
    sandbox.write_files(tmp_path, Identity(hostname="one"))
    assert (tmp_path / "hostname").stat().st_mtime_ns == inode.st_mtime_ns
    sandbox.write_files(tmp_path, Identity(hostname="two"))
    assert (tmp_path / "hostname").read_text() == "two\n"
    assert (tmp_path / "hostname").stat().st_ino == inode.st_ino  # it is bound somewhere


def test_namespaces() -> None:
    assert sandbox.namespaces_of(7, ["network", "pid"]) == {
        "network": "/proc/7/ns/net",
        "pid": "/proc/7/ns/pid",
    }
