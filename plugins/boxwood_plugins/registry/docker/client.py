"""HTTP as registries speak it: one request, with its authentication, redirects and patience."""

from __future__ import annotations

import asyncio
import email.utils
import random
import re
import ssl
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from boxwood.drivers.registry import Credentials
from boxwood.errors import DataLoss, DeadlineExceeded, Unavailable
from boxwood_plugins.registry.docker import auth
from boxwood_plugins.registry.docker.addresses import Proxied, Resolver, led
from boxwood_plugins.registry.docker.answers import Answer, Waits, failure, unavailable
from boxwood_plugins.registry.docker.logins import Logins
from boxwood_plugins.registry.docker.notices import tell
from boxwood_plugins.registry.docker.tokens import Tokens

if TYPE_CHECKING:
    from boxwood_plugins.registry.docker.hosts import Host, Hosts
    from boxwood_plugins.registry.docker.proxies import Proxies

ATTEMPTS = 5
REDIRECTS = 5
LOGINS_KEPT = 1_000

_SECONDS = re.compile(r"\d{1,18}(?:\.\d{1,9})?", re.ASCII)

Body = bytes | Callable[[], AsyncIterable[bytes]] | None


class Client:
    """Connections to registries, tokens, and what was learnt of hosts. One event loop's."""

    def __init__(self, hosts: Hosts, proxies: Proxies, waits: Waits) -> None:
        self.hosts, self.proxies, self.waits = hosts, proxies, waits
        self.resolver = Resolver(strict=False)
        self._proxied = Proxied()
        self._sessions: dict[bool, aiohttp.ClientSession] = {}
        """To the registries that people name, and (True) to whom those lead us."""
        self._tokens = Tokens(self)
        self._mirrored = Logins()
        self._schemes: dict[str, str] = {}
        self._logins: dict[tuple[str, ...], str] = {}
        """``Authorization`` that a host has taken, by host, scope and login."""

    def _session(self, strict: bool) -> aiohttp.ClientSession:
        if strict not in self._sessions:
            resolver = Resolver(strict=True) if strict else self.resolver
            self._sessions[strict] = aiohttp.ClientSession(
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                connector=aiohttp.TCPConnector(
                    limit_per_host=16, ttl_dns_cache=60, resolver=resolver
                ),
                headers={"User-Agent": "boxwood", "Accept-Encoding": "identity"},
                read_bufsize=1 << 18,
            )
        return self._sessions[strict]

    def reconfigure(self, hosts: Hosts, proxies: Proxies) -> None:
        """Take other settings; what was learnt of hosts is learnt again."""
        self.hosts, self.proxies = hosts, proxies
        self.resolver.outside.clear()
        self._schemes.clear()
        self._logins.clear()
        self._tokens = Tokens(self)
        self._mirrored = Logins()

    async def close(self) -> None:
        """Free all connections."""
        sessions, self._sessions = self._sessions, {}
        for session in sessions.values():
            await session.close()

    async def ask(
        self,
        host: Host,
        method: str,
        path: str,
        *,
        scope: str,
        credentials: Credentials | None = None,
        headers: Mapping[str, str] | None = None,
        body: Body = None,
        accept: frozenset[int] = frozenset({200}),
        patient: bool = True,
    ) -> Answer:
        """Send one request and return its answer, of one of the statuses of ``accept``.

        Args:
            path: from the host's root, with its slash.
            scope: what a token must allow (``repository:NAME:pull``).
            body: bytes, or a function that begins the stream anew for each attempt.
            patient: try again what is only unavailable now, a bounded number of times.

        Raises:
            NotFound, Unauthenticated, PermissionDenied, InvalidArgument, Unavailable, DataLoss
        """
        if host.mirror_of:
            # A login is for the registry, not for who stands in for it; that has its own, which
            # is this machine's: it reads for everybody, and writes for nobody.
            credentials = await self._mirrored.of(host) if _reads(scope) else None
        request = Request(self, host, method, path, scope, credentials, headers or {}, body)
        for attempt in range(ATTEMPTS):
            last = attempt == ATTEMPTS - 1 or not patient
            try:
                answer = await request.send()
            except (Unavailable, DeadlineExceeded) as error:
                # A host that is not there will not be there soon; but a kept connection may have
                # died without a word, and what only reads can be asked once more.
                again = isinstance(error, Unavailable) or method in ("GET", "HEAD")
                if last or attempt or not again:
                    raise
                await asyncio.sleep(backoff(attempt, self.waits))
                continue
            if answer.status in accept:
                return answer
            async with answer:
                busy = answer.status == 429 or answer.status >= 500
                if last or not busy:
                    raise await failure(answer)
                await asyncio.sleep(
                    retry_after(answer.headers.get("Retry-After"), attempt, self.waits)
                )
        raise AssertionError("unreachable")

    async def scheme(self, host: Host) -> str:
        """Return how a host is spoken to: TLS, or plain where it may be and nothing else works."""
        if host.authority not in self._schemes:
            self._schemes[host.authority] = await self._try_schemes(host)
        return self._schemes[host.authority]

    async def _try_schemes(self, host: Host) -> str:
        if len(host.schemes) == 1:
            return host.schemes[0]
        try:
            async with await self.send("GET", f"https://{host.authority}/v2/", {}, None):
                return "https"
        except (Unavailable, DeadlineExceeded):
            return "http"

    def known(self, key: tuple[str, ...]) -> str:
        """Return the ``Authorization`` that a host has taken before; ``""``: none."""
        return self._logins.get(key, "")

    def learn(self, key: tuple[str, ...], authorization: str) -> None:
        """Note what a host has taken; the oldest of many is forgotten."""
        self._logins[key] = authorization
        if len(self._logins) > LOGINS_KEPT:
            del self._logins[next(iter(self._logins))]

    async def authorize(self, request: Request, answer: Answer) -> str:
        """Return the ``Authorization`` that meets a 401; see :meth:`Tokens.authorize`."""
        return await self._tokens.authorize(request, answer)

    async def login(self, host: Host, credentials: Credentials) -> str:
        """Try a login; returns the identity token that the registry gives for it, or ``""``."""
        request = Request(self, host, "GET", "/v2/", "", credentials, {}, None, offline=True)
        async with await request.send() as answer:
            if answer.status != 200:
                raise await failure(answer)
        return request.identity_token

    async def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Body,
        *,
        strict: bool = False,
    ) -> Answer:
        """Send without authentication or redirects.

        Args:
            strict: a registry named the host: it must be on another machine.

        Raises:
            Unavailable, DeadlineExceeded, DataLoss (no HTTP), Unsafe (an address that is refused)
        """
        parts, waits = urlsplit(url), self.waits
        tls: ssl.SSLContext | bool = True
        if parts.scheme == "https":
            tls = self.hosts.context(parts.netloc)
        proxy = self.proxies.of(url)
        if proxy is not None and strict:
            await self._proxied.check(parts.hostname or "")
            strict = False  # what is resolved now is the proxy's name, which a person said
        patience = waits.finish if method in ("PUT", "PATCH") else waits.head
        try:
            async with asyncio.timeout(patience) as bound:
                response = await self._session(strict).request(
                    method,
                    URL(url, encoded=True),
                    data=_moving(body, bound, patience) if callable(body) else body,
                    headers=headers,
                    ssl=tls,
                    proxy=proxy,
                    allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(
                        sock_connect=waits.connect, sock_read=max(waits.stall, patience)
                    ),
                )
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise unavailable(url, error) from error
        except ValueError as error:
            raise DataLoss(f"registry: {url[:200]!r}: {error}") from error
        return Answer(response, url, waits)


def _reads(scope: str) -> bool:
    """Is this about reading alone?"""
    return all(one.endswith(":pull") for one in scope.split())


def _moving(
    body: Callable[[], AsyncIterable[bytes]], bound: asyncio.Timeout, patience: float
) -> AsyncIterator[bytes]:
    """Return the stream; the deadline is put off as long as it moves."""

    async def pieces() -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        async for piece in body():
            yield piece
            bound.reschedule(loop.time() + patience)

    return pieces()


class Request:
    """One request on its way, through a challenge and redirects."""

    def __init__(
        self,
        client: Client,
        host: Host,
        method: str,
        path: str,
        scope: str,
        credentials: Credentials | None,
        headers: Mapping[str, str],
        body: Body,
        offline: bool = False,
    ) -> None:
        self.client, self.host, self.method, self.path = client, host, method, path
        self.scope, self.credentials, self.body = scope, credentials, body
        self.headers = dict(headers)
        self.base = ""
        self.refused = ""
        """What was shown and not taken: it has expired, or never was enough."""
        self.offline = offline
        """A login: the token server is asked for one that lasts."""
        self.identity_token = ""
        self._authorization = ""

    async def send(self) -> Answer:
        """Send it; what comes back has no redirect and no challenge that we could meet."""
        self.base = f"{await self.client.scheme(self.host)}://{self.host.authority}"
        url = self.base + self.path  # joined as URLs, "//HOST/" would be another host
        login = self.credentials
        key = (self.host.authority, self.scope, *auth.identity(login))
        if login is not None and login.registry_token:
            self._authorization = f"Bearer {login.registry_token}"
        elif not self.offline:
            self._authorization = self._authorization or self.client.known(key)
        for _ in range(2):
            answer = await self._follow(url)
            if answer.status != 401:
                if self._authorization and answer.status < 400:
                    self.client.learn(key, self._authorization)
                break
            async with answer:
                if not self._own(answer.url):
                    raise await failure(answer)  # another host's challenge is none of ours
                self.refused = self._authorization
                fresh = await self.client.authorize(self, answer)
                if fresh == self._authorization:
                    raise await failure(answer)
                self._authorization = fresh
        else:
            answer = await self._follow(url)
        tell(answer.headers.getall("Warning", []))
        return answer

    def _own(self, url: str) -> bool:
        return urlsplit(url)[:2] == urlsplit(self.base)[:2]

    async def _follow(self, url: str) -> Answer:
        """Follow redirects; the authorization goes to the registry's own host alone."""
        strict = False
        async with AsyncExitStack() as stack:
            for _ in range(REDIRECTS + 1):
                headers = dict(self.headers)
                if self._authorization and self._own(url):
                    headers["Authorization"] = self._authorization
                answer = await self.client.send(self.method, url, headers, self.body, strict=strict)
                if answer.status not in (301, 302, 303, 307, 308) or self.method not in (
                    "GET",
                    "HEAD",
                ):
                    return answer
                stack.push_async_exit(answer)
                location = answer.headers.get("Location", "")
                url, strict = led(self.base, url, location, self.client.resolver)
        raise DataLoss(f"registry: {self.base}{self.path}: more than {REDIRECTS} redirects")


def backoff(attempt: int, waits: Waits) -> float:
    """Seconds before the next attempt: each time twice as many, with half as much of chance."""
    return waits.pause * 2.0**attempt * (1 + random.random() / 2)


def retry_after(header: str | None, attempt: int, waits: Waits) -> float:
    """Return the seconds that a registry asks for (RFC 9110 10.2.3), within bounds."""
    seconds = backoff(attempt, waits)
    if header is not None and _SECONDS.fullmatch(header):
        seconds = float(header)
    elif header is not None:
        with suppress(ValueError, OverflowError, TypeError, IndexError):
            seconds = email.utils.parsedate_to_datetime(header).timestamp() - time.time()
    return min(max(seconds, 0.0), waits.longest)
