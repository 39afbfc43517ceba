"""``/images``: what is here already, loading and importing."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING

from boxwood.api import compat
from boxwood.api.http.message import Response, json_response
from boxwood.api.progress import Progress
from boxwood.api.routes import registries
from boxwood.api.routing import STREAM_BODY, Route
from boxwood.errors import InvalidArgument, Unsupported
from boxwood.model.compression import Compression
from boxwood.model.platform import Platform
from boxwood.model.reference import Reference

if TYPE_CHECKING:
    from boxwood.api.call import Call


async def list_images(call: Call) -> Response:
    """``GET /images/json``"""
    wanted = call.filters()
    if call.minor < 25 and call.text("filter"):
        wanted["reference"] = (call.text("filter"),)
    images = call.engine.images
    users = Counter(container.image_id for container in call.engine.containers.list(all=True))
    shown = []
    for image in images.list(wanted, all=call.flag("all")):
        entry = {**images.summary(image), "Containers": users[image.id]}
        shown.append(compat.wrap("image summary", call.minor, entry))
    return json_response(shown)


async def inspect(call: Call) -> Response:
    """``GET /images/{name}/json``"""
    _check_platform(call, call.params["name"])
    shown = call.engine.images.inspect(call.params["name"])
    return json_response(compat.wrap("image", call.minor, shown))


async def history(call: Call) -> Response:
    """``GET /images/{name}/history``"""
    _check_platform(call, call.params["name"])
    return json_response(call.engine.images.history(call.params["name"]))


async def tag(call: Call) -> Response:
    """``POST /images/{name}/tag``"""
    repository = call.text("repo")
    if not repository:
        raise InvalidArgument("invalid reference format: repository name must not be empty")
    call.engine.images.tag(call.params["name"], repository, call.text("tag"))
    return Response(201, b"", "")


async def remove(call: Call) -> Response:
    """``DELETE /images/{name}``"""
    if call.has("platforms"):
        raise Unsupported("remove image: platforms: removing one platform is not served yet")
    removed = call.engine.images.remove(
        call.params["name"], force=call.flag("force"), noprune=call.flag("noprune")
    )
    return json_response(removed)


async def create(call: Call) -> Response | None:
    """``POST /images/create``: pulls an image, or imports an archive."""
    source = call.text("fromSrc")
    if call.text("fromImage"):
        await pull(call)
        return None
    if not source:
        raise InvalidArgument("create image: one of fromImage and fromSrc is needed")
    progress = Progress(call.request)
    async with progress:
        if source == "-":
            await _import(call, call.request.body, source, progress)
        else:
            async with aclosing(_downloaded(call, source, progress)) as body:
                await _import(call, body, source, progress)
    return None


async def _import(call: Call, body: AsyncIterator[bytes], source: str, progress: Progress) -> None:
    await call.engine.images.import_(
        body,
        call.text("repo"),
        call.text("tag"),
        call.text("message"),
        tuple(call.request.query.get("changes", ())),
        call.text("platform"),
        progress.emit,
        source,
    )


async def _downloaded(call: Call, source: str, progress: Progress) -> AsyncGenerator[bytes, None]:
    """Yield what a web server sends."""
    from boxwood.services.images import fetching  # what it needs takes 2 MB

    url = fetching.address(source)
    call.admit.further("image.transport", url)
    progress.emit({"status": f"Downloading from {url}"})
    async with aclosing(fetching.fetched(url)) as pieces:
        async for piece in pieces:
            yield piece


async def pull(call: Call) -> None:
    """``POST /images/create?fromImage=``; without a ``tag`` it may begin with a scheme, ours."""
    text, tag = call.text("fromImage"), call.text("tag")
    if not tag and call.engine.images.shipping.scheme_of(text):
        await _pull_from(call, text)
        return
    reference = Reference.parse(text)
    if ":" in tag:
        reference = Reference.parse(f"{reference.name}@{tag}")
    elif tag:
        reference = reference.with_tag(tag)
    login = registries.login_of(call)
    shipping = call.engine.images.shipping
    progress = Progress(call.request)
    async with progress:
        if reference.tag is None and reference.digest is None:
            await shipping.pull_all(reference, progress.emit, login)
        else:
            await shipping.pull(reference, progress.emit, call.text("platform"), login)


async def _pull_from(call: Call, text: str) -> None:
    """Pull by any transport; ``repo``, ours, is what the image is to be called."""
    call.admit.further("image.transport", text)
    login, platform = registries.login_of(call), call.text("platform")
    progress = Progress(call.request)
    async with progress:
        await call.engine.images.shipping.pull_from(
            text, progress.emit, platform, login, call.text("repo")
        )


async def push(call: Call) -> None:
    """``POST /images/{name}/push``; ours: ``destination`` (with its scheme), ``compression``."""
    login = registries.login_of(call)
    name, tag, to = call.params["name"], call.text("tag"), call.text("destination")
    _check_platform(call, f"{name}:{tag}" if tag else name, every=not tag)
    asked = call.text("compression")
    compression = Compression.parse(asked) if asked else None
    shipping = call.engine.images.shipping
    if to:
        call.admit.further("image.transport", to)
    progress = Progress(call.request)
    async with progress:
        if to:
            await shipping.push_to(name, tag, to, progress.emit, login, compression)
        else:
            await shipping.push(name, tag, progress.emit, login, compression)


async def load(call: Call) -> Response | None:
    """``POST /images/load``: what goes wrong after the first byte is told in the stream."""
    if call.text("platform") not in ("", "null"):
        raise Unsupported("load: platform: images here have one platform each")
    progress = Progress(call.request)
    async with progress:
        await call.engine.images.load(call.request.body, progress.emit)
    return None


async def save(call: Call) -> None:
    """``GET /images/get``, ``GET /images/{name}/get``"""
    name = call.params.get("name")
    refs = [name] if name else call.request.query.get("names", [])
    for ref in refs:
        _check_platform(call, ref, every=True)
    async with aclosing(call.engine.images.save(refs)) as source:
        await call.pour(source, "application/x-tar")


def _check_platform(call: Call, ref: str, *, every: bool = False) -> None:
    """Have an image be for the platform that is asked for, if one is; raises NotFound."""
    text = call.text("platform")
    if text and text != "null":
        call.engine.images.check_platform(ref, Platform.decode(text), every=every)


ROUTES = (
    Route("GET", "/images/json", list_images, action="image.list"),
    Route("POST", "/images/create", create, body=STREAM_BODY, action="image.create", cancel=True),
    Route("POST", "/images/{name}/push", push, action="image.push", about="name", cancel=True),
    Route("POST", "/images/load", load, body=STREAM_BODY, action="image.load"),
    Route("GET", "/images/get", save, action="image.save", cancel=True),
    Route("GET", "/images/{name}/get", save, action="image.save", about="name", cancel=True),
    Route("GET", "/images/{name}/json", inspect, action="image.inspect", about="name"),
    Route("GET", "/images/{name}/history", history, action="image.history", about="name"),
    Route("POST", "/images/{name}/tag", tag, action="image.tag", about="name"),
    Route("DELETE", "/images/{name}", remove, action="image.remove", about="name"),
)
