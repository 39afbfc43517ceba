"""The engine that is to get the image: it asks for what it lacks, and trusts nothing it is given.

A layer that is like one that is here comes as the difference: the sender's list of chunks is
compared with the lists of likely layers, and only chunks that none of them has are asked for. The
tar is put together in a worker and goes through the pass that unpacks any layer, which knows what
SHA-256 it must have. Where that fails (lists can lie, layers here can be damaged) all of it is
asked for, once.

What came of a layer stays in a file until the layer is here, at most a week::

    <content>/partial/tar-<hex of the diff ID>

It holds whole chunks one after the other, but for its end; so its own list says what is in it.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from boxwood.drivers.storage import as_boxwood_error
from boxwood.errors import BoxwoodError, DataLoss, InvalidArgument, ResourceExhausted
from boxwood.execution.spool import fed, to_fd
from boxwood.faultpoints import fault
from boxwood.model.digest import Digest, chain_ids
from boxwood.model.image import LAYER_LIMIT, Image, ImageConfig
from boxwood.model.wire import encode, replace
from boxwood.services.images.downloads import is_wrong
from boxwood.services.images.peers import exact
from boxwood.services.images.peers.channel import (
    ASK,
    DONE,
    OFFER,
    SAY,
    Ask,
    Channel,
    Done,
    Offer,
    decoded,
)
from boxwood.services.images.peers.identity import believable, taken
from boxwood.services.images.peers.likeness import alike
from boxwood.services.images.peers.wanted import Wanted, content, most, nothing
from boxwood.store.chunklists import LARGEST
from boxwood.store.piping import opened

if TYPE_CHECKING:
    from boxwood.model.reference import Reference
    from boxwood.services.images.service import ImagesService
    from boxwood.store.records import Claim, Layer
    from boxwood.store.unpacking import Unpacked

log = logging.getLogger(__name__)

BEAT = 0.1
"""Seconds between two messages about one layer."""
AHEAD = 8
"""Layers that may be asked for before their turn."""
LIST_LIMIT = 32 << 20
"""Bytes of a list, as :mod:`boxwood.execution.worker_chunks` has it."""


class Receive:
    """One image on its way here."""

    def __init__(
        self, service: ImagesService, channel: Channel, name: Reference | None, *, blobs: bool
    ) -> None:
        """``blobs``: compressed bytes are wanted of layers that nobody can compress so again."""
        self._service, self._channel, self._name = service, channel, name
        self._exact = blobs
        self._came: list[Claim | None] = []
        self._layers = service.layers
        self._lists = service.layers.blobs.chunks
        self._partial = service.content.root / "partial"
        self._fresh: list[int] = []
        self._wanted: list[Wanted] = []
        self._asked: deque[int] = deque()
        """Layers, by index, that were asked for before their turn."""
        self._said = 0.0

    async def run(self) -> Image:
        """Receive, record, and tell; raises what went wrong, and nothing is to be seen of it."""
        offer = decoded(await self._channel.expect(OFFER), Offer)
        config = ImageConfig.parse(offer.config)
        self._check(config, offer)
        image = await self._image(config, offer)
        name = self._name.familiar if self._name is not None else image.id
        self._service.publish("image", "pull", name, {"name": name})
        done = Done(
            id=image.id,
            name=name if self._name is not None else "",
            layers=len(self._fresh),
            size=sum(self._fresh),
            travelled=self._channel.received,
        )
        await self._channel.send(DONE, encode(done))
        return image

    def _check(self, config: ImageConfig, offer: Offer) -> None:
        layers = config.rootfs.diff_ids
        if len(layers) != len(offer.sizes) or len(layers) > LAYER_LIMIT:
            raise InvalidArgument(f"store: {len(offer.sizes)} layers are offered for {len(layers)}")
        if any(not 0 < size <= self._layers.unpacker.limits.size for size in offer.sizes):
            raise InvalidArgument("store: a layer of a size that is none")
        if config.os not in ("", "linux"):
            raise InvalidArgument(f"image operating system {config.os!r} cannot be used on linux")

    async def _image(self, config: ImageConfig, offer: Offer) -> Image:
        service, document = self._service, offer.config
        diff_ids = config.rootfs.diff_ids
        chains = chain_ids(diff_ids)
        with service.lease(chains), service.undoing(document):
            below = (None, *chains)
            self._wanted = [
                Wanted(*one)
                for one in zip(count(), below, diff_ids, chains, offer.sizes, strict=False)
            ]
            names, documents = taken(service, Digest.of(document), len(chains), offer.identity)
            if self._name is not None:
                names.append(self._name)
            self._came = offer.identity.came
            for wanted in self._wanted:
                await self._layer(wanted)
            fault("receive.unpacked")
            self._believe()
            for data in (document, *documents):
                service.content.put(data)
            await self._layers.ensure_init(below[-1])
            await self._layers.settle(chains)
            image, _ = service.catalog.add(config, document, names)
        return image

    def _believe(self) -> None:
        """Note what layers are said to have come as: a quiet moment, or a push, will try it."""
        for wanted, claim in zip(self._wanted, self._came, strict=False):
            layer = self._layers.get(wanted.chain)
            if believable(claim, layer):
                self._layers.remember(replace(layer, claim=claim))
                self._layers.blobs.consider(layer.chain_id)

    # One layer

    async def _layer(self, wanted: Wanted) -> None:
        # One at a time: the partial belongs to one, and the others then find the layer here.
        async with self._service.peers.alone(wanted.diff_id):
            twin = self._twin(wanted)
            if self._layers.has(wanted.chain) or twin is not None:
                if twin is not None and not self._layers.has(wanted.chain):
                    async with self._layers.blobs.open_tar(twin) as (tar, _):
                        self._known((await self._unpack(wanted, tar)).layer, wanted)
                await self._say("Already exists", wanted)
                if wanted.index in self._asked:  # it has come by another way meanwhile
                    await self._begin_whole(wanted)
                    await self._channel.drain(most(wanted.size))
                return
            await self._say("Pulling fs layer", wanted)
            path = self._path(wanted)
            with self._opened(path) as partial:
                await self._fetch(wanted, partial, path)
            path.unlink(missing_ok=True)
            self._fresh.append(wanted.size)
            await self._say("Pull complete", wanted)

    def _twin(self, wanted: Wanted) -> Layer | None:
        """Return a layer that is here with the same bytes, on other parents."""
        for other in self._layers.all():
            has_tar = other.recipe or (other.kept and other.blob)
            if other.diff_id == wanted.diff_id and has_tar:
                return other
        return None

    @contextmanager
    def _opened(self, path: Path) -> Iterator[int]:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        try:
            fd = os.open(path, flags, 0o600)
        except OSError as error:
            raise as_boxwood_error("receive", path.name, error) from error
        try:
            yield fd
        finally:
            empty = os.fstat(fd).st_size == 0
            os.close(fd)
            if empty:
                path.unlink(missing_ok=True)

    async def _unpack(self, wanted: Wanted, tar: int, keep: Path | None = None) -> Unpacked:
        os.set_blocking(tar, True)  # the worker, which alone reads it, knows no event loop
        return await self._layers.unpacker.unpack(
            wanted.parent, tar, diff_id=wanted.diff_id, keep=keep
        )

    async def _fetch(self, wanted: Wanted, partial: int, path: Path) -> None:
        """Get what is missing of a layer and unpack it; what came stays for the next try."""
        if (claim := self._compressed(wanted)) is not None:
            try:
                await self._ask(wanted, "blob")
                await exact.unpack(
                    self._service, wanted, claim, lambda size: self._coming(wanted, size, size)
                )
                return
            except BoxwoodError as error:
                if self._channel.broken or not is_wrong(error):
                    raise
                log.info("receive layer %s: its tar is asked for: %s", wanted.diff_id, error)
        bases = alike(self._service, self._name, wanted.index, wanted.parent, wanted.size)

        async def difference() -> None:
            with self._service.lease([layer.chain_id for layer in bases]):
                await self._difference(wanted, partial, bases)

        async def everything() -> None:
            await self._everything(wanted, partial, path)

        some = bool(bases) or os.fstat(partial).st_size > 0
        if wanted.index in self._asked or wanted.size > LARGEST:
            some = False
        for way in (difference, everything) if some else (everything,):
            try:
                await way()
                break
            except BoxwoodError as error:
                if self._layers.has(wanted.chain):  # somebody else was quicker
                    log.info("receive layer %s: it is here; %s", wanted.diff_id, error)
                    break
                wrong = is_wrong(error) or isinstance(error, DataLoss)
                if wrong or isinstance(error, ResourceExhausted):
                    os.ftruncate(partial, 0)
                if self._channel.broken or not wrong or way is everything:
                    raise
                log.info("receive layer %s: all of it is asked for: %s", wanted.diff_id, error)
                await self._channel.drain(most(wanted.size))
        await self._channel.drain(most(wanted.size))

    async def _everything(self, wanted: Wanted, partial: int, path: Path) -> None:
        """Have the whole tar sent; the file that it is gathered in may be kept as its blob."""
        with self._lists.scratch() as plan, self._lists.scratch() as pool:
            os.ftruncate(partial, 0)
            await self._begin_whole(wanted)
            await self._ask_ahead(wanted)
            await self._join(wanted, plan, partial, [pool], path)

    async def _begin_whole(self, wanted: Wanted) -> None:
        """Ask for the whole layer, unless that was done."""
        if wanted.index in self._asked:
            self._asked.remove(wanted.index)
        else:
            await self._ask(wanted, "all")
        self._channel.streaming = True

    async def _ask_ahead(self, wanted: Wanted) -> None:
        """Ask for whole layers that follow: small ones would each wait for a round trip.

        Answers come in the order of the questions: so none goes beyond a layer of which it is not
        known yet what will be asked.
        """
        for after in self._wanted[wanted.index + 1 :]:
            if self._layers.has(after.chain) or after.index in self._asked:
                continue
            if len(self._asked) == AHEAD or not self._comes_whole(after):
                return
            await self._ask(after, "all")
            self._asked.append(after.index)

    def _comes_whole(self, wanted: Wanted) -> bool:
        before = (other.diff_id for other in self._wanted[: wanted.index])
        return (
            wanted.diff_id not in before
            and self._compressed(wanted) is None
            and self._twin(wanted) is None
            and not self._path(wanted).exists()
            and not alike(self._service, self._name, wanted.index, wanted.parent, wanted.size)
        )

    def _compressed(self, wanted: Wanted) -> Claim | None:
        """Return what the layer came as, where its compressed bytes are to be asked for."""
        came = self._came[wanted.index] if wanted.index < len(self._came) else None
        return came if self._exact and exact.asked_for(came, wanted) else None

    def _path(self, wanted: Wanted) -> Path:
        return self._partial / f"tar-{Digest.parse(wanted.diff_id).hex}"

    async def _difference(self, wanted: Wanted, partial: int, bases: list[Layer]) -> None:
        """Have those chunks sent that are nowhere here."""
        async with AsyncExitStack() as stack:
            theirs, plan, bits, pool, own = (
                stack.enter_context(self._lists.scratch()) for _ in range(5)
            )
            await self._ask(wanted, "list")
            await to_fd(self._channel.stream(LIST_LIMIT), theirs)
            # What is behind the last cut is no whole chunk: new ones begin in its place.
            os.ftruncate(partial, await self._list(partial, own))
            lists = [await stack.enter_async_context(self._lists.opened(layer)) for layer in bases]
            found = await self._offload(
                "match_layer", {"size": wanted.size}, [theirs, plan, bits, own, *lists]
            )
            if found["wanted"]:
                await self._ask(wanted, "some")
                await self._channel.send_stream(content(bits))
            tars = await self._tars(stack, bases, found["used"][1:])
            made = await self._join(
                wanted, plan, partial, [pool, *tars], None, coming=found["wanted"]
            )
            await self._complete(made.layer, wanted, [theirs, partial, own, *lists], bases)

    async def _list(self, partial: int, own: int) -> int:
        os.lseek(partial, 0, os.SEEK_SET)
        return await self._lists.write(partial, own)

    async def _tars(self, stack: AsyncExitStack, bases: list[Layer], used: list[int]) -> list[int]:
        """Open the tars that something is taken from; nothing in the place of the others."""
        found = []
        for layer, size in zip(bases, used, strict=True):
            if size:
                tar, _ = await stack.enter_async_context(self._layers.blobs.open_tar(layer))
                os.set_blocking(tar, True)
            else:
                tar = nothing(stack)
            found.append(tar)
        return found

    async def _ask(self, wanted: Wanted, what: str) -> None:
        await self._channel.send(ASK, msgspec.msgpack.encode(Ask(wanted.index, what)))

    async def _join(
        self,
        wanted: Wanted,
        plan: int,
        partial: int,
        here: list[int],
        keep: Path | None,
        coming: int = -1,
    ) -> Unpacked:
        """Put the tar together of what comes and what is here, straight into the unpacking."""
        failed: list[BoxwoodError] = []

        async def join(sink: int) -> None:
            async def work(source: int) -> dict[str, Any]:
                return await self._offload(
                    "join_layer", {"size": wanted.size}, [plan, source, sink, partial, *here]
                )

            try:
                if coming:
                    await fed(self._coming(wanted, wanted.size if coming < 0 else coming), work)
                else:
                    with ExitStack() as stack:
                        await work(nothing(stack))
            except BoxwoodError as error:
                failed.append(error)
                raise

        try:
            async with opened(join) as tar:
                return await self._unpack(wanted, tar, keep)
        except BoxwoodError:
            # The tar that ends too early is the consequence.
            if failed and not self._layers.has(wanted.chain):
                raise failed[0] from None
            raise

    async def _coming(
        self, wanted: Wanted, size: int, limit: int = 0
    ) -> AsyncGenerator[bytes, None]:
        count = 0
        async for piece in self._channel.stream(limit or most(size)):
            count += len(piece)
            await self._say("Downloading", wanted, count)
            yield piece

    async def _complete(
        self, layer: Layer, wanted: Wanted, lists: list[int], bases: list[Layer]
    ) -> None:
        """Where the layer's files are no complete recipe, keep its tar; else say what it is."""
        if self._known(layer, wanted):
            return
        theirs, partial, own, *others = lists
        file = self._service.content.root / "ingest" / f"tar-{Digest.parse(layer.diff_id).hex}"
        async with AsyncExitStack() as stack:
            plan, bits, pool = (stack.enter_context(self._lists.scratch()) for _ in range(3))
            os.ftruncate(own, 0)
            os.lseek(own, 0, os.SEEK_SET)
            await self._list(partial, own)
            found = await self._offload(
                "match_layer", {"size": wanted.size}, [theirs, plan, bits, own, *others]
            )
            tars = await self._tars(stack, bases, found["used"][1:])
            stack.callback(file.unlink, missing_ok=True)
            with file.open("xb") as sink:
                fds = [plan, nothing(stack), sink.fileno(), partial, pool, *tars]
                await self._offload("join_layer", {"size": wanted.size}, fds)
            self._service.content.adopt(file, Digest.parse(layer.diff_id))
            known = replace(layer, blob=layer.diff_id, kept=True, stored=wanted.size)
            self._layers.remember(known)

    def _known(self, layer: Layer, wanted: Wanted) -> bool:
        """Can the layer's tar be had again? If so that is noted: it came as that tar."""
        if not layer.blob and layer.recipe:
            made = replace(layer, blob=layer.diff_id, kept=False, stored=wanted.size)
            self._layers.remember(made)
        return bool(layer.blob) or layer.recipe

    async def _offload(self, job: str, arguments: dict[str, Any], fds: list[int]) -> dict[str, Any]:
        return await self._service.offload(job, arguments, fds)

    async def _say(self, status: str, wanted: Wanted, current: int = 0) -> None:
        now = asyncio.get_running_loop().time()
        if current and now - self._said < BEAT:
            return
        self._said = now
        detail = {"current": current} if current else {}
        message = {"status": status, "id": wanted.short, "progressDetail": detail}
        await self._channel.send(SAY, msgspec.json.encode(message))
