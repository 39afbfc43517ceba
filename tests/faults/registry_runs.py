"""Pulls and pushes through a proxy that harms them, and what must hold after each."""

from __future__ import annotations

import gzip
import json
import random
import time
import urllib.error
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import quote

from boxwood.model.descriptor import DOCKER_MANIFEST
from boxwood.services.images.spans import SUFFIX
from tests.faults.disk import is_one_sentence
from tests.integration.images.make import config, docker_old
from tests.integration.tar.archives import archive, entry
from tests.support.engine import Engine
from tests.support.faultproxy import FaultProxy
from tests.support.registry import Registry
from tests.support.scripted import CONFIG, LAYER, MANIFEST, described, digest

WAITS = {"BOXWOOD_REGISTRY_WAITS": "0.03"}
"""The daemon's waits for a registry, in parts of what they are: a minute's silence is 1.8 s."""
BOUND = 120.0
"""Seconds after which a pull or push must have ended."""
RATES = (0.05, 0.15, 0.3, 0.5, 0.9)
"""How many of the requests of a run are harmed."""
SIZES = (400_000, 150_000, 30_000)
"""Bytes of a layer's file."""


IN_FLIGHT = 1 << 20
"""Bytes that are on their way when a connection's part becomes another one's, at most."""


@dataclass(frozen=True)
class Picture:
    """An image as a registry has it."""

    layers: tuple[bytes, ...]
    config: bytes
    manifest: bytes

    @classmethod
    def drawn(cls, dice: random.Random, sizes: Sequence[int]) -> Picture:
        """Make one of random files, one of so many bytes in each layer."""
        tars = [archive(entry("file", data=dice.randbytes(size))) for size in sizes]
        layers = tuple(gzip.compress(tar, 1, mtime=0) for tar in tars)
        document = config(*tars)
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": described(CONFIG, document),
            "layers": [described(LAYER, layer) for layer in layers],
        }
        return cls(layers, document, json.dumps(manifest).encode())


class Goods(NamedTuple):
    """An image that is to be pushed: where to, what it is called here, its config's digest."""

    repository: str
    name: str
    config: str


class Lane:
    """One repository behind a proxy of its own: what happens in it concerns nobody else."""

    def __init__(
        self,
        engine: Engine,
        registry: Registry,
        proxy: FaultProxy,
        number: int,
        sizes: Sequence[int] = SIZES,
    ) -> None:
        self.engine, self._registry, self.proxy = engine, registry, proxy
        self._repository = f"lane{number}/image"
        self.picture = Picture.drawn(random.Random(number), sizes)
        picture = self.picture
        registry.put(
            self._repository, "1", MANIFEST, picture.manifest, *picture.layers, picture.config
        )
        self._harmed = ""
        self.name = f"{proxy.address}/{self._repository}:1"

    @classmethod
    @contextmanager
    def opened(
        cls,
        engine: Engine,
        registry: Registry,
        number: int,
        sizes: Sequence[int] = SIZES,
        rate: float = 0.0,
    ) -> Iterator[Lane]:
        """Open one: for layers of these sizes, so many bytes a second wide."""
        with FaultProxy(("127.0.0.1", registry.port), rate).serving() as proxy:
            yield cls(engine, registry, proxy, number, sizes)

    def run(self, seed: int, pushes: float = 0.4) -> str:
        """Do what the seed says, so many times of one a push; returns what came of it.

        That is ``pulled``, ``pushed``, or the error.
        """
        dice = random.Random(seed)
        self._harmed = ""
        goods = self.load(seed, dice) if dice.random() < pushes else None
        self.proxy.begin(seed, dice.choice(RATES))
        error = self.pull() if goods is None else self.push(goods)
        if error:
            self._harmed = f"{error}\n{self.proxy.told()}\nthen, without faults:\n"
            if goods is None:
                assert not self.shown(self.name), f"an error, and an image: {error}"
                self.pull_clean()
            else:
                self.push_clean(goods)
        if goods is None:
            self.check_pulled()
            self.remove(self.name)
        else:
            self.check_pushed(goods)
            self.remove(goods.name)
        return error or ("pushed" if goods else "pulled")

    def told(self) -> str:
        """Return what came of the harmed try, and all requests since."""
        return self._harmed + self.proxy.told()

    # Pull

    def pull(self) -> str:
        """Pull the lane's image; returns the error."""
        return self._asked("pull", f"/images/create?fromImage={quote(self.name, safe='')}")

    def pull_clean(self) -> None:
        """The next pull completes, and fetches what is not here."""
        here = {layer: self._kept(layer) for layer in self.picture.layers}
        self.proxy.begin(0, 0.0)
        error = self.pull()
        assert not error, f"the clean pull: {error}"
        for layer, (kept, whole) in here.items():
            fetched = self.proxy.fetched(digest(layer))
            # What was kept and is wrong is found out when all of it is here.
            limit = len(layer) - kept if whole else 2 * len(layer)
            asked = sum(digest(layer) in one.path for one in self.proxy.log)
            limit += IN_FLIGHT * max(asked - 1, 0)
            assert fetched <= limit, f"{fetched} bytes of {len(layer)}, though {kept} were here"

    def _kept(self, layer: bytes) -> tuple[int, bool]:
        """Return how many bytes of a layer are kept, and if all of them are right."""
        file = self.engine.data_root / "content/partial" / digest(layer).replace(":", "-")
        kept = file.read_bytes() if file.exists() else b""
        spans = [(0, len(kept), len(layer))]
        if (there := file.with_name(file.name + SUFFIX)).exists():
            spans = json.loads(there.read_bytes())
        whole = all(kept[start:at] == layer[start:at] for start, at, _ in spans)
        return sum(at - start for start, at, _ in spans), whole

    def check_pulled(self) -> None:
        """It is the registry's image."""
        shown = self.shown(self.name)
        assert shown["Id"] == digest(self.picture.config)
        by_digest = f"{self.proxy.address}/{self._repository}@{digest(self.picture.manifest)}"
        assert shown["RepoDigests"] == [by_digest]

    # Push

    def load(self, seed: int, dice: random.Random) -> Goods:
        """Have the engine make an image that no registry has."""
        repository = f"pushed/run{seed:x}"
        name = f"{self.proxy.address}/{repository}:1"
        tars = [archive(entry("file", data=dice.randbytes(size))) for size in SIZES[1:]]
        saved = docker_old(*tars, names=(name,))
        loaded = self.engine.api("POST", "/images/load", saved, timeout=BOUND)
        assert loaded.status == 200, loaded.body
        assert b"errorDetail" not in loaded.body, loaded.body
        return Goods(repository, name, digest(config(*tars)))

    def push(self, goods: Goods) -> str:
        """Push it; returns the error."""
        name = quote(goods.name.removesuffix(":1"), safe="/")
        return self._asked("push", f"/images/{name}/push?tag=1")

    def push_clean(self, goods: Goods) -> None:
        """The next push completes."""
        self.proxy.begin(0, 0.0)
        error = self.push(goods)
        assert not error, f"the clean push: {error}"

    def check_pushed(self, goods: Goods) -> None:
        """The registry has all of it; each blob is what its name says."""
        root = goods.repository
        try:
            manifest = json.loads(self._registry.get(f"{root}/manifests/1", DOCKER_MANIFEST))
            for blob in (manifest["config"], *manifest["layers"]):
                data = self._registry.get(f"{root}/blobs/{blob['digest']}")
                assert digest(data) == blob["digest"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"pushed, and not there: {error.url}: {error}") from error
        assert manifest["config"]["digest"] == goods.config

    # The engine

    def _asked(self, what: str, path: str) -> str:
        """Return the one error of a pull or push; empty: it has succeeded. Its time is bounded."""
        begun = time.monotonic()
        answer = self.engine.api("POST", path, timeout=BOUND, headers={"X-Registry-Auth": "e30"})
        took = time.monotonic() - begun
        assert took < BOUND, f"{what}: took {took:.0f} s"
        if answer.status != 200:
            error = answer.message
        else:
            lines = [json.loads(line) for line in answer.body.splitlines() if line]
            errors = [line["error"] for line in lines if "error" in line]
            assert len(errors) <= 1, errors
            error = errors[0] if errors else ""
            assert lines, f"{what}: an empty stream"
        assert is_one_sentence(error), error
        return error

    def shown(self, name: str) -> dict[str, Any]:
        """Return what ``inspect`` says of an image; empty: it is not there."""
        answer = self.engine.api("GET", f"/images/{quote(name, safe='')}/json")
        found: dict[str, Any] = answer.json() if answer.status == 200 else {}
        return found

    def remove(self, name: str) -> None:
        """Remove an image, whatever it is called."""
        shown = self.shown(name)
        answer = self.engine.api("DELETE", f"/images/{shown['Id']}?force=1", timeout=BOUND)
        assert answer.status == 200, answer.body
