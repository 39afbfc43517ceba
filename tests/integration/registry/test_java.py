"""Build, ship, run: a Java application from Debian's packages, from one engine to another.

Only with ``--soak``: it takes some minutes. Times and sizes are printed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.support.engine import Engine, running
from tests.support.needs import need_root, until
from tests.support.registry import Registry, serving
from tests.support.visitor import Visitor, visit

pytestmark = [pytest.mark.root, pytest.mark.soak, pytest.mark.timeout(1500)]

BASE = "debootstrap:bookworm"
INSTALL = (
    "apt-get -q update && DEBIAN_FRONTEND=noninteractive "
    "apt-get -q install -y --no-install-recommends openjdk-17-jre-headless tomcat10 && "
    "apt-get clean && rm -rf /var/lib/apt/lists/*"
)
PAGE = (
    '<%@ page contentType="text/plain" %>version {0} on <%= System.getProperty("java.version") %>'
)
PAGE_OF = ("/app/", 30.0)
"""Where the application is, and seconds that it may take."""
DEPLOY = (
    "mkdir -p /var/lib/tomcat10/webapps/app/WEB-INF && cat >/var/lib/tomcat10/webapps/app/index.jsp"
)
START = (
    'CMD ["sh","-c","CATALINA_HOME=/usr/share/tomcat10 CATALINA_BASE=/var/lib/tomcat10 '
    'exec /usr/share/tomcat10/bin/catalina.sh run"]'
)


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Print how long it took."""
    start = time.monotonic()
    yield
    print(f"{what}: {time.monotonic() - start:.1f} s")


def answers(port: int, version: str) -> bool:
    """Is that version of the application there?"""
    try:
        return visit(port, *PAGE_OF).startswith(f"version {version} ")
    except OSError:
        return False


def published(engine: Engine, name: str) -> int:
    """Return the port of the loopback that leads to a container."""
    return int(engine.cli("port", name, "8080").stdout.strip().rpartition(":")[2])


def build(engine: Engine, start: str, name: str, version: str) -> None:
    """Put the application into a container of an image, and commit it."""
    page = PAGE.format(version)
    engine.cli("run", "-i", "--name", "work", "--network", "none", start, "sh", "-c", DEPLOY,
               input=page, timeout=60)  # fmt: skip
    engine.cli("commit", "-c", START, "work", name, timeout=120)
    engine.cli("rm", "work")


def size(engine: Engine, name: str) -> int:
    """Return an image's size in bytes."""
    return int(engine.cli("image", "inspect", "-f", "{{.Size}}", name).stdout)


def asked(registry: Registry, since: int, method: str) -> list[str]:
    """Return the requests for blobs of a method since then."""
    return [one for one in registry.requests()[since:] if one.startswith(method) and "blobs" in one]


@pytest.fixture
def house(soak: bool) -> Iterator[tuple[Engine, Engine, Registry]]:
    """Two engines with their own roots and sockets, and a registry between them."""
    need_root()
    if not soak:
        pytest.skip("minutes long: with --soak")
    with ExitStack() as stack:
        registry = stack.enter_context(serving())
        here = stack.enter_context(running(Engine(), busybox=False))
        there = stack.enter_context(running(Engine(), busybox=False))
        assert isinstance(here, Engine)
        assert isinstance(there, Engine)
        yield here, there, registry


def test_build_ship_run(house: tuple[Engine, Engine, Registry]) -> None:
    """Built on the one, run on the other, changed, shipped again: only what changed travels."""
    here, there, registry = house
    name = f"{registry.address}/shop/app"
    with timed("base from debootstrap:"):
        here.cli("pull", "--name", "base", BASE, timeout=600)
    with timed("Java and Tomcat installed in a container"):
        here.cli("run", "--name", "java", "base", "sh", "-c", INSTALL, timeout=600)
    with timed("committed"):
        here.cli("commit", "java", "java", timeout=300)
    here.cli("rm", "java")
    build(here, "java", f"{name}:1", "1")
    with timed("pushed"):
        here.cli("push", f"{name}:1", timeout=600)
    with timed("pulled on the second engine"):
        there.cli("pull", f"{name}:1", timeout=600)
    print(f"image: {size(here, f'{name}:1') >> 20} MiB, base: {size(here, 'base') >> 20} MiB")
    with timed("until it answers"):
        there.cli("run", "-d", "--name", "one", "-p", "127.0.0.1::8080", f"{name}:1")
        port = published(there, "one")
        until(lambda: answers(port, "1"), "the application answers", seconds=120)

    build(here, f"{name}:1", f"{name}:2", "2")
    before = len(registry.requests())
    with timed("the change pushed"):
        here.cli("push", f"{name}:2", timeout=300)
    assert len(asked(registry, before, "PUT")) == 2, "one layer and the config"
    before = len(registry.requests())
    visitor = Visitor(port, PAGE_OF[0], seconds=PAGE_OF[1])
    visitor.start()
    try:
        with timed("the change pulled"):
            there.cli("pull", f"{name}:2", timeout=300)
        assert len(asked(registry, before, "GET")) == 2, "one layer and the config"
        there.cli("run", "-d", "--name", "two", "-p", "127.0.0.1::8080", f"{name}:2")
        own = published(there, "two")
        until(lambda: answers(own, "2"), "the new one answers", seconds=120)
        there.cli("update", "--publish-from", "one", "two")
        seen = len(visitor.seen)
        until(lambda: "version 2" in " ".join(visitor.seen[seen + 2 :]), "visitors meet it")
        there.cli("stop", "one")
        until(lambda: len(visitor.seen) > seen + 100, "and go on")
    finally:
        visitor.stop()
    print(f"visits: {len(visitor.seen)}, failed: {len(visitor.failures)}")
    assert visitor.failures == []
    assert visitor.seen[0].startswith("version 1 ")
    assert visitor.seen[-1].startswith("version 2 ")
