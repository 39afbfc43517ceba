"""Every key of the configuration does something, or is refused by its name."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from boxwood.configuration import DOCS
from tests.support.engine import Engine
from tests.support.needs import need_root
from tests.support.paths import ROOT

SETTINGS: dict[str, Any] = {
    "labels": ["shelf=oak"],
    "debug": True,
    "storage-driver": "vfs",
    "runtimes": {"mine": "native"},
    "default-network": "none",
    "cgroup-parent": "/boxwood/walk",
    "default-cgroupns-mode": "private",
    "default-ipc-mode": "shareable",
    "default-shm-size": "32m",
    "default-ulimits": {"nofile": {"Name": "nofile", "Soft": 333, "Hard": 444}},
    "default-stop-timeout": 7,
    "init": True,
    "no-new-privileges": True,
    "seccomp-profile": "unconfined",
    "log-opts": {"max-size": "3m"},
    "dns": ["192.0.2.53"],
    "dns-opts": ["ndots:3"],
    "dns-search": ["walk.example"],
    "min-api-version": "1.40",
    "insecure-tcp": True,
    "live-restore": False,
    "group": "daemon",
}
"""What the engine of this file is given; each key has a line in `effects`."""

REFUSED: dict[str, tuple[Any, str]] = {
    "max-concurrent-downloads": (0, "max-concurrent-downloads: must be 1 or more"),
    "max-concurrent-ranges": (0, "max-concurrent-ranges: must be 1 or more"),
    "max-concurrent-uploads": (0, "max-concurrent-uploads: must be 1 or more"),
    "push-compression": ("zstd:40", "push-compression: compression 'zstd:40': write gzip, zstd"),
    "max-download-attempts": (0, "max-download-attempts: must be 1 or more"),
    "storage-opts": (["no-such=1"], "no-such"),
    "exec-opts": (["no-such=1"], "no-such"),
    "log-driver": ("no-such", "no-such"),
    "default-runtime": ("no-such", "no-such"),
    "keep-blobs": ("sometimes", "keep-blobs: sometimes"),
    "layer-max-entries": (0, "layer-max-entries: not between"),
    "layer-max-size": ("0", "layer-max-size: less than 1"),
    "layer-max-ratio": (-1, "layer-max-ratio: not between"),
    "layer-max-name": (9999, "layer-max-name: not between"),
    "log-level": ("loud", "log-level: loud"),
    "tlsverify": (True, "TLS material"),
    "registries-config": ("/no/such.toml", "registries: /no/such.toml: no such file"),
    "min-api-version": ("1.23", "min-api-version: '1.23'"),
    "plugins": ("guard", "plugins"),
}
"""Values that cannot be: the daemon names the key, or the driver whose option it is."""

ELSEWHERE = {
    "data-root": "support/engine.py",
    "exec-root": "support/engine.py",
    "hosts": "support/engine.py",
    "pidfile": "support/engine.py",
    "plugins": "integration/engine/test_extensions.py",
    **dict.fromkeys(
        (
            *("keep-blobs", "layer-max-entries", "layer-max-size", "layer-max-ratio"),
            "layer-max-name",
        ),
        "integration/engine/test_layers.py",
    ),
    **dict.fromkeys(
        (
            *("bridge", "bip", "bip6", "fixed-cidr", "fixed-cidr-v6", "ipv6", "mtu", "icc"),
            *("default-gateway", "default-gateway-v6"),
            *("ip-masq", "ip", "ip-forward", "host-gateway-ip", "respect-host-firewall"),
            *("default-address-pools", "default-network-opts"),
        ),
        "integration/engine/test_network_keys.py",
    ),
    "registry-mirrors": "integration/registry/test_settings.py",
    "insecure-registries": "integration/registry/test_settings.py",
    "proxies": "integration/registry/test_places.py",
    "registry-policy": "integration/registry/test_signatures.py",
    "signature-verifier": "integration/registry/test_signatures.py",
    "idle-timeout": "integration/engine/test_daemon.py",
    "shutdown-timeout": "integration/engine/test_daemon.py",
    "tls": "integration/api/test_tls_engine.py",
    "tlscacert": "integration/api/test_tls_engine.py",
    "tlscert": "integration/api/test_tls_engine.py",
    "tlskey": "integration/api/test_tls_engine.py",
}
"""Keys whose effect another file of the tests shows."""


def test_no_key_is_forgotten() -> None:
    assert set(SETTINGS) | set(REFUSED) | set(ELSEWHERE) == set(DOCS)


@pytest.mark.parametrize(("key", "file"), ELSEWHERE.items())
def test_the_other_file_has_the_key(key: str, file: str) -> None:
    text = (ROOT / "tests" / file).read_text()
    flag = key.removesuffix("s")
    assert key in text or f'"--{flag}"' in text or (key == "hosts" and '"-H"' in text)


def free_port() -> int:
    """A TCP port of the loopback that nobody has now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Engine, int]]:
    need_root()
    file = tmp_path_factory.mktemp("walk") / "daemon.json"
    file.write_text(json.dumps(SETTINGS))
    port = free_port()
    engine = Engine("--config-file", str(file), "-H", f"tcp://127.0.0.1:{port}")
    try:
        engine.start()
        engine.add_busybox()
        yield engine, port
    finally:
        engine.close()
        # As with Docker, a parent that was asked for stays: this one is ours to remove.
        for group in Path("/sys/fs/cgroup").glob("*/boxwood/walk"):
            group.rmdir()


SCRIPT = (
    "cat /proc/self/status; ulimit -n; ulimit -Hn; df -k /dev/shm; cat /etc/resolv.conf; "
    "cat /proc/1/comm; cat /proc/self/cgroup; readlink /proc/self/ns/cgroup"
)


def test_every_key_has_its_effect(walked: tuple[Engine, int]) -> None:
    engine, port = walked
    info = engine.api("GET", "/info").json()
    version = engine.api("GET", "/version").json()
    engine.docker("run", "-d", "--name", "walker", "--runtime", "mine", "busybox", "sleep", "9")
    shown = engine.api("GET", "/containers/walker/json").json()
    host = shown["HostConfig"]
    inside = engine.docker("exec", "walker", "sh", "-c", SCRIPT).stdout
    init = engine.docker("exec", "walker", "cat", "/proc/1/comm").stdout
    cgroups = Path(f"/proc/{shown['State']['Pid']}/cgroup").read_text()
    over_tcp = engine.run("curl", "-s", f"http://127.0.0.1:{port}/_ping").stdout
    effects: dict[str, bool] = {
        "labels": info["Labels"] == ["shelf=oak"],
        "debug": info["Debug"] is True,
        "storage-driver": info["Driver"] == "vfs",
        "runtimes": host["Runtime"] == "mine",
        "default-network": network_mode(engine) == "none",
        "cgroup-parent": "/boxwood/walk/" in cgroups,
        "default-cgroupns-mode": host["CgroupnsMode"] == "private",
        "default-ipc-mode": host["IpcMode"] == "shareable",
        "default-shm-size": "32768" in inside,
        "default-ulimits": "\n333\n444\n" in inside,
        "default-stop-timeout": stop_timeout(engine) == 7,
        "init": init == "docker-init\n",
        "no-new-privileges": "NoNewPrivs:\t1" in inside,
        "seccomp-profile": "Seccomp:\t0" in inside,
        "log-opts": host["LogConfig"]["Config"]["max-size"] == "3m",
        "dns": "nameserver 192.0.2.53" in inside,
        "dns-opts": "options ndots:3" in inside,
        "dns-search": "search walk.example" in inside,
        "min-api-version": version["MinAPIVersion"] == "1.40"
        and "1.39 is too old" in engine.api("GET", "/v1.39/info").body.decode(),
        "insecure-tcp": over_tcp == "OK",
        "live-restore": info["LiveRestoreEnabled"] is False,
        "group": engine.socket.stat().st_gid != 0,
    }
    assert set(effects) == set(SETTINGS)
    assert [key for key, seen in effects.items() if not seen] == [], inside


def network_mode(engine: Engine) -> str:
    """The network of a container that asks for none (Docker's client asks for bridge)."""
    created = engine.api("POST", "/containers/create", {"Image": "busybox"}).json()
    shown = engine.api("GET", f"/containers/{created['Id']}/json").json()
    return str(shown["HostConfig"]["NetworkMode"])


def stop_timeout(engine: Engine) -> int:
    """Seconds that a container has which ignores its stop signal (in whole ones)."""
    script = "trap '' TERM; while :; do sleep 1; done"
    engine.docker("run", "-d", "--name", "stubborn", "busybox", "sh", "-c", script)
    before = time.monotonic()
    engine.docker("stop", "stubborn")
    return int(time.monotonic() - before)


@pytest.mark.parametrize(("key", "value", "words"), [(k, *v) for k, v in REFUSED.items()])
def test_what_cannot_be_is_refused_by_name(
    make_engine: Callable[..., Engine], tmp_path: Path, key: str, value: Any, words: str
) -> None:
    file = tmp_path / "daemon.json"
    file.write_text(json.dumps({key: value}))
    flags = ["--config-file", str(file)]
    if key.startswith("tls"):
        flags += ["-H", "tcp://127.0.0.1:0"]
    engine = make_engine(*flags, start=False)
    done = engine.run(*engine.command(), check=False)
    assert done.returncode not in (0, 1), done.stderr
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
