"""Reading the head of a request, strictly and within bounds.

llhttp is given exactly the bytes of one head. So what follows it (the body, the next request, or
the first bytes of a hijacked stream) stays ours to the byte: a parser that runs on into them can
not give them back.
"""

from __future__ import annotations

import httptools

from boxwood.api.http.message import BadRequest, Head

MAX_HEAD = 64 * 1024
"""Bytes of request line and headers together; registry auth headers reach some KiB."""
MAX_TARGET = 32 * 1024
"""Bytes of the request target; ``filters`` and ``buildargs`` are in it."""
MAX_HEADERS = 128

_END = b"\r\n\r\n"
_LONE_HEADERS = ("content-length", "host")


class _Collector:
    """Callbacks of llhttp."""

    __slots__ = ("complete", "count", "headers", "keep_alive", "parser", "target")

    def __init__(self) -> None:
        self.parser: httptools.HttpRequestParser | None = None
        self.keep_alive = False
        self.target = b""
        self.headers: dict[str, str] = {}
        self.complete = False
        self.count = 0

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.count += 1
        if self.count > MAX_HEADERS:
            return
        key = name.decode("latin-1").lower()
        text = value.decode("latin-1")
        before = self.headers.get(key)
        self.headers[key] = text if before is None else f"{before}, {text}"

    def on_headers_complete(self) -> None:
        self.complete = True
        # llhttp forgets this once the message is complete.
        self.keep_alive = self.parser is not None and self.parser.should_keep_alive()


class HeadReader:
    """Collects the bytes of one head.

    :meth:`feed` takes what came and returns the head and what lies behind it once the head is
    whole. A reader serves one head only.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._fed = 0
        self._collector = _Collector()
        self._parser = httptools.HttpRequestParser(self._collector)
        self._collector.parser = self._parser

    @property
    def empty(self) -> bool:
        """Whether nothing of the head has come yet."""
        return not self._buffer

    def feed(self, data: bytes) -> tuple[Head, bytes] | None:
        """Add ``data``; return (head, rest) when the head is whole. Raises BadRequest."""
        if not self._buffer:
            data = data.lstrip(b"\r\n") if data[:1] in (b"\r", b"\n") else data
        self._buffer += data
        end = self._buffer.find(_END, max(0, self._fed - len(_END) + 1))
        stop = len(self._buffer) if end < 0 else end + len(_END)
        fresh = bytes(self._buffer[self._fed : stop])
        self._fed = stop
        if stop > MAX_HEAD:
            raise self._oversize()
        self._parse(fresh)
        if len(self._collector.target) > MAX_TARGET:
            raise BadRequest(414, "request target too long")
        if end < 0:
            return None
        return self._finish(), bytes(self._buffer[stop:])

    def _oversize(self) -> BadRequest:
        line = self._buffer.find(b"\r\n", 0, MAX_TARGET)
        if line < 0:
            return BadRequest(414, "request target too long")
        return BadRequest(431, "request header fields too large")

    def _parse(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass
        except httptools.HttpParserError as error:
            raise BadRequest(400, f"malformed request: {error}") from error

    def _finish(self) -> Head:
        found = self._collector
        found.parser = None  # no cycle for the garbage collector in every request
        if not found.complete:
            raise BadRequest(400, "malformed request: header fields end too early")
        if found.count > MAX_HEADERS:
            raise BadRequest(431, "too many request header fields")
        version = self._parser.get_http_version()
        if version not in ("1.0", "1.1"):
            raise BadRequest(505, f"HTTP version {version} is not supported")
        headers = found.headers
        if version == "1.1" and "host" not in headers:
            raise BadRequest(400, "missing required Host header")
        for name in _LONE_HEADERS:
            if ", " in headers.get(name, ""):
                raise BadRequest(400, f"repeated header {name}")
        return Head(
            method=self._parser.get_method().decode("ascii"),
            target=found.target,
            headers=headers,
            keep_alive=found.keep_alive,
            chunked=_chunked(headers, version),
            length=_length(headers),
            http10=version == "1.0",
        )


def _chunked(headers: dict[str, str], version: str) -> bool:
    coding = headers.get("transfer-encoding")
    if coding is None:
        return False
    if version == "1.0" or coding.strip().lower() != "chunked":
        raise BadRequest(400, f"unsupported transfer encoding {coding!r}")
    return True


def _length(headers: dict[str, str]) -> int:
    text = headers.get("content-length")
    if text is None:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise BadRequest(400, "invalid Content-Length")
    return int(text)
