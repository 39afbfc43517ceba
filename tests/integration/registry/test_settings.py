"""What the configuration says of registries: mirrors, insecure ones, how many at once."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme

from tests.integration.tar.archives import archive, entry
from tests.support.engine import Engine
from tests.support.scripted import Handler, Scripted

pytestmark = pytest.mark.root

LAYERS = [archive(entry(f"file{number}", data=b"x" * number)) for number in range(6)]


@pytest.fixture
def registry() -> Iterator[Scripted]:
    """A registry that has what Docker Hub would have under ``library/box:1``."""
    with Scripted(*LAYERS, name="library/box").serving() as one:
        yield one


def test_a_mirror_of_the_hub(make_engine: Callable[..., Engine], registry: Scripted) -> None:
    """registry-mirrors: asked in the Hub's place, without its login, and told what it mirrors."""
    house = make_engine("--registry-mirror", f"http://{registry.address}", busybox=False)
    login = "eyJ1c2VybmFtZSI6Im1lIiwicGFzc3dvcmQiOiJzZWNyZXQifQ"
    answer = house.api(
        "POST", "/images/create?fromImage=box&tag=1", headers={"X-Registry-Auth": login}
    )
    assert b"Downloaded newer image for box:1" in answer.body
    assert all("ns=docker.io" in one for one in registry.requests if "/blobs/" in one)
    assert all("authorization" not in head for head in registry.headers)
    assert house.docker("images", "--format", "{{.Repository}}:{{.Tag}}").stdout == "box:1\n"
    # What it lacks is asked of the Hub itself, which cannot be reached from here.
    missing = house.api("POST", "/images/create?fromImage=other&tag=1", timeout=60)
    assert missing.status != 200
    assert "registry-1.docker.io" in missing.message


class Together:
    """Counts requests that are under way; the first one waits until there are two."""

    def __init__(self) -> None:
        self.most = self._now = 0
        self._lock, self._both = threading.Lock(), threading.Event()

    @contextmanager
    def one(self) -> Iterator[None]:
        """Be one of them."""
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
            if self._now == 2:
                self._both.set()
        self._both.wait(10)
        yield
        with self._lock:
            self._now -= 1


def test_how_many_at_once(make_engine: Callable[..., Engine], registry: Scripted) -> None:
    """max-concurrent-downloads layers are on their way together, never more."""
    house = make_engine("--max-concurrent-downloads", "2", busybox=False)
    count = Together()

    def script(handler: Handler) -> bool:
        if "/blobs/" not in handler.path or handler.path.endswith(config):
            return False
        with count.one():
            handler.usual()
        return True

    config = next(key for key, blob in registry.blobs.items() if blob == registry.config)
    registry.script = script
    answer = house.api("POST", f"/images/create?fromImage={registry.address}/library/box&tag=1")
    assert b"Downloaded newer image" in answer.body
    assert count.most == 2


def test_how_many_go_at_once(make_engine: Callable[..., Engine], registry: Scripted) -> None:
    """max-concurrent-uploads layers are sent together, never more."""
    house = make_engine("--max-concurrent-uploads", "2", busybox=False)
    answer = house.api("POST", f"/images/create?fromImage={registry.address}/library/box&tag=1")
    assert b"Downloaded newer image" in answer.body
    count = Together()

    def script(handler: Handler) -> bool:
        body = int(handler.headers.get("Content-Length", "0"))
        if handler.command not in ("PATCH", "PUT") or "/manifests/" in handler.path or not body:
            return False
        with count.one():
            time.sleep(0.1)  # one more would be seen
            handler.usual()
        return True

    with Scripted(name="other/box").serving() as other:
        other.script = script
        name = f"{other.address}/other/box"
        house.docker("tag", f"{registry.address}/library/box:1", f"{name}:1")
        house.docker("push", f"{name}:1")
        assert set(registry.layers) <= set(other.blobs.values())
    assert count.most == 2


def test_attempts(make_engine: Callable[..., Engine], registry: Scripted, tmp_path: Path) -> None:
    """max-download-attempts: one is one."""
    file = tmp_path / "daemon.json"
    file.write_text('{"max-download-attempts": 1}')
    house = make_engine("--config-file", str(file), busybox=False)

    def script(handler: Handler) -> bool:
        if "/blobs/" in handler.path:
            data = registry.blobs[handler.path.rpartition("/")[2]]
            if data != registry.config:
                handler.cut(data, 3)
                return True
        return False

    registry.script = script
    answer = house.api("POST", f"/images/create?fromImage={registry.address}/library/box&tag=1")
    assert b'"error"' in answer.body
    assert {len(registry.asked("GET", key)) for key in registry.blobs} <= {0, 1}


@pytest.mark.parametrize("insecure", [True, False])
def test_a_certificate_that_nobody_vouches_for(
    make_engine: Callable[..., Engine], insecure: bool
) -> None:
    """insecure-registries: taken there, refused elsewhere. The loopback is never asked for one."""
    address = _own_address()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("registry.example").configure_cert(context)
    registry = Scripted(*LAYERS, name="library/box", host=address, context=context)
    with registry.serving():
        flags = ("--insecure-registry", registry.address) if insecure else ()
        house = make_engine(*flags, busybox=False)
        answer = house.api(
            "POST", f"/images/create?fromImage={registry.address}/library/box&tag=1", timeout=60
        )
        if insecure:
            assert b"Downloaded newer image" in answer.body
        else:
            assert answer.status != 200
            assert "certificate" in answer.message.lower()


def _own_address() -> str:
    """An address of this machine that is not the loopback's."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no address beside the loopback's")
        found: str = probe.getsockname()[0]
        return found
