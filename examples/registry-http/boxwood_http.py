"""Images from web servers: `http(s)://HOST/PATH`, the tar of a file tree, compressed or not."""

import asyncio
import bz2
import gzip
import hashlib
import json
import lzma
import re
import tempfile
import urllib.request
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from boxwood.drivers.hookspecs import hookimpl
from boxwood.drivers.registry import RegistryTransport, Session
from boxwood.errors import InvalidArgument, NotFound, TooLarge, Unavailable, Unsupported
from boxwood.model.descriptor import DOCKER_CONFIG, DOCKER_LAYER, DOCKER_MANIFEST, Descriptor
from boxwood.model.platform import Platform
from boxwood.model.reference import Reference

PIECE = 1 << 20
STALL = 60
"""Seconds without a byte after which a server is given up."""
LIMIT = 16 << 30
"""Bytes of an archive that are fetched at most."""
OPENERS = {".gz": gzip.open, ".tgz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}


class HttpTransport(RegistryTransport[str]):
    """Each name is an address; what lies there is fetched once for each pull."""

    def __init__(self, scheme):
        self.scheme = scheme
        self.images = {}

    def parse(self, text):
        """Take a web address."""
        parts = urlsplit(text)
        if parts.scheme != self.scheme or not parts.hostname or not text.isprintable():
            raise InvalidArgument(f"{text}: is no address: {self.scheme}://HOST/PATH")
        return text

    async def local_name(self, name, descriptor):
        """Call the image after the file: `localhost/FILE:latest`."""
        stem = urlsplit(name).path.rpartition("/")[2].lower().partition(".tar")[0]
        plain = re.sub("[^a-z0-9]+", "-", stem).strip("-")
        return Reference.parse(f"localhost/{plain}:latest") if plain else None

    @asynccontextmanager
    async def session(self, name, session=None):
        """Fetch the archive, as nobody knows its digest before; it goes when the pull ends."""
        session = session or Session()
        if session.writing:
            raise Unsupported(f"push: {name}: a web server only gives")
        session.say(f"Fetching {name}")
        with tempfile.NamedTemporaryFile() as file:
            image = await asyncio.to_thread(make_image, name, file, session.platform)
            self.images.setdefault(name, []).append(image)
            try:
                yield
            finally:
                self.images[name].remove(image)

    async def resolve(self, name, credentials=None):
        """Say what the manifest is that was made."""
        if not self.images.get(name):
            raise NotFound(f"{name}: is fetched in a session")
        return self.images[name][-1]["top"]

    async def fetch(self, name, descriptor, offset=0, credentials=None):
        """Yield a document, or the archive."""
        for image in self.images.get(name, ()):
            if descriptor.digest in image:
                break
        else:
            raise NotFound(f"{name}: {descriptor.digest}: is not there")
        content = image[descriptor.digest]
        if isinstance(content, bytes):
            yield content[offset:]
            return
        with await asyncio.to_thread(open, content, "rb") as file:
            file.seek(offset)
            while piece := await asyncio.to_thread(file.read, PIECE):
                yield piece


def make_image(url, file, platform):
    """Fetch an archive and make an image of it: its contents by digest, and `top`."""
    size, digest = download(url, file)
    opener = OPENERS.get("." + urlsplit(url).path.rpartition(".")[2], open)
    try:
        with opener(file.name, "rb") as plain:
            diff_id = digest_of(plain)
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise InvalidArgument(f"{url}: cannot be decompressed: {error}") from error
    machine = platform or Platform.host()
    config = {
        "os": "linux",
        "architecture": machine.architecture,
        "config": {"Cmd": ["/bin/sh"]},
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        "history": [{"created_by": f"from {url}"}],
    }
    contents = {digest: file.name}
    document = {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST,
        "config": add(contents, DOCKER_CONFIG, config),
        "layers": [{"mediaType": DOCKER_LAYER, "digest": digest, "size": size}],
    }
    top = add(contents, DOCKER_MANIFEST, document)
    contents["top"] = Descriptor(
        media_type=top["mediaType"], digest=top["digest"], size=top["size"]
    )
    return contents


def add(contents, kind, document):
    """Add a document to an image's contents; returns its descriptor as documents have it."""
    data = json.dumps(document, sort_keys=True).encode()
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    contents[digest] = data
    return {"mediaType": kind, "digest": digest, "size": len(data)}


def download(url, file):
    """Write what lies at an address to a file; returns its size and digest."""
    hasher, size = hashlib.sha256(), 0
    try:
        with urllib.request.urlopen(url, timeout=STALL) as answer:
            while piece := answer.read(PIECE):
                size += len(piece)
                if size > LIMIT:
                    raise TooLarge(f"{url}: larger than {LIMIT} bytes")
                hasher.update(piece)
                file.write(piece)
        file.flush()
    except urllib.error.HTTPError as error:
        kind = NotFound if error.code in (404, 410) else Unavailable
        raise kind(f"{url}: {error}") from error
    except OSError as error:
        raise Unavailable(f"{url}: {error}") from error
    return size, f"sha256:{hasher.hexdigest()}"


def digest_of(stream):
    """Return the digest of what a stream holds."""
    hasher = hashlib.sha256()
    while piece := stream.read(PIECE):
        hasher.update(piece)
    return f"sha256:{hasher.hexdigest()}"


@hookimpl
def registry_transport(scheme, options):
    """Hand the transport over when it is asked for by one of its schemes."""
    return HttpTransport(scheme) if scheme in ("http", "https") else None
