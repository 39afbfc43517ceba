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
    assert Identity(hostname="web").names == "web"
    assert Identity(hostname="mail.example.org").names == "mail.example.org mail"
    assert Identity(hostname="a.b", domainname="c").names == "a.b.c a"


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


def test_resolv_conf_of_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    host = "nameserver 127.0.0.53\nnameserver fe80::1%eth0\nnameserver 192.0.2.1\nsearch lan\n"
    monkeypatch.setattr(sandbox, "_host_file", lambda _: host)
    own = Identity(hostname="h", connected=True, addresses=("10.0.0.2",))
    assert sandbox.resolv_conf(own) == "nameserver 192.0.2.1\nsearch lan\n"
    asked = Identity(hostname="h", connected=True, resolver=True, addresses=("10.0.0.2",))
    assert sandbox.resolv_conf(asked) == (
        "nameserver 127.0.0.11\nsearch lan\noptions ndots:0\n"
        "# ExtServers: [host(127.0.0.53) host(fe80::1%eth0) host(192.0.2.1)]\n"
    )
    told = Identity(hostname="h", resolver=True, nameservers=("1.1.1.1",), options=("ndots:2",))
    assert "options ndots:2\n# ExtServers: [1.1.1.1]\n" in sandbox.resolv_conf(told)
    assert sandbox.sets_ndots(told)
    assert not sandbox.sets_ndots(asked)
    monkeypatch.setattr(sandbox, "_host_file", lambda _: "nameserver 127.0.0.1\n")
    assert sandbox.resolv_conf(own) == "nameserver 8.8.8.8\nnameserver 8.8.4.4\n"
    assert "nameserver" not in sandbox.resolv_conf(Identity(hostname="h"))


def test_the_host_as_a_name() -> None:
    asked = Identity(hostname="h", extra_hosts=("up:host-gateway",), gateways=("10.0.0.1", "fd::1"))
    assert sandbox.hosts(asked).splitlines()[-2:] == ["10.0.0.1\tup", "fd::1\tup"]
    with pytest.raises(InvalidArgument):
        sandbox.hosts(Identity(hostname="h", extra_hosts=("up:host-gateway",)))


def test_what_somebody_edited_stays(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    sandbox.write_files(tmp_path, Identity(hostname="h", nameservers=("192.0.2.1",)))
    sandbox.write_files(tmp_path, Identity(hostname="h", nameservers=("192.0.2.2",)))
    assert path.read_text().startswith("nameserver 192.0.2.2\n"), "nobody had edited it"
    path.write_text("nameserver 192.0.2.9\n")
    sandbox.write_files(tmp_path, Identity(hostname="h", nameservers=("192.0.2.3",)))
    assert path.read_text() == "nameserver 192.0.2.9\n"


def test_hosts_change_line_by_line(tmp_path: Path) -> None:
    one = Identity(hostname="h", addresses=("10.0.0.2",))
    sandbox.write_files(tmp_path, one)
    path = tmp_path / "hosts"
    path.write_text(path.read_text() + "192.0.2.7 mine\n")
    sandbox.change_hosts(tmp_path, ["10.0.0.2"], [("10.0.0.22", "h")])
    lines = path.read_text().splitlines()
    assert lines[-2:] == ["192.0.2.7 mine", "10.0.0.22\th"]
    assert "10.0.0.2\th" not in lines
    assert lines[0] == "127.0.0.1\tlocalhost"


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
