"""HTTP as registries speak it: one request, with its authentication, redirects and patience."""

from __future__ import annotations

import asyncio
import email.utils
import ipaddress
import random
import ssl
import time
from collections.abc import AsyncIterable, Callable, Mapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

import aiohttp
from yarl import URL

from boxwood.drivers.registry import Credentials
from boxwood.errors import (
    DataLoss,
    PermissionDenied,
    Unavailable,
)
from boxwood_plugins.registry.docker import auth
from boxwood_plugins.registry.docker.answers import Answer, failure, unavailable

if TYPE_CHECKING:
    from boxwood_plugins.registry.docker.hosts import Host, Hosts

ATTEMPTS = 5
REDIRECTS = 5
CONNECT, STALL = 15.0, 60.0
"""Seconds to reach a host; seconds without a byte."""
LONGEST_WAIT = 60.0
"""Seconds waited at most because a registry asked for it (Retry-After)."""
Body = bytes | Callable[[], AsyncIterable[bytes]] | None


class Client:
    """Connections to registries, tokens, and what was learnt of hosts. One event loop's."""

    def __init__(self, hosts: Hosts) -> None:
        self.hosts = hosts
        self._session: aiohttp.ClientSession | None = None
        self._tokens: dict[tuple[str, ...], auth.Token] = {}
        self._schemes: dict[str, str] = {}
        self._logins: dict[tuple[str, str], str] = {}
        """``Authorization`` that a host has taken, by host and login."""

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                auto_decompress=False,
                trust_env=True,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(sock_connect=CONNECT, sock_read=STALL),
                connector=aiohttp.TCPConnector(limit_per_host=16, ttl_dns_cache=60),
                headers={"User-Agent": "boxwood", "Accept-Encoding": "identity"},
                read_bufsize=1 << 18,
            )
        return self._session

    async def close(self) -> None:
        """Free all connections."""
        if self._session is not None:
            session, self._session = self._session, None
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
            path: below the host's root, or a whole URL on it (a Location).
            scope: what a token must allow (``repository:NAME:pull``).
            body: bytes, or a function that begins the stream anew for each attempt.
            patient: try again what is only unavailable now, a bounded number of times.

        Raises:
            NotFound, Unauthenticated, PermissionDenied, InvalidArgument, Unavailable, DataLoss
        """
        if host.mirror_of:
            credentials = None  # a login is for the registry, not for who stands in for it
        request = _Request(self, host, method, path, scope, credentials, headers or {}, body)
        for attempt in range(ATTEMPTS):
            last = attempt == ATTEMPTS - 1 or not patient
            try:
                answer = await request.send()
            except Unavailable:
                if last or attempt:  # a host that is not there will not be there soon
                    raise
                await asyncio.sleep(_backoff(attempt))
                continue
            if answer.status in accept:
                return answer
            async with answer:
                busy = answer.status == 429 or answer.status >= 500
                if last or not busy:
                    raise await failure(answer)
                await asyncio.sleep(_wait(answer.headers.get("Retry-After"), attempt))
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
        except Unavailable:
            return "http"

    async def send(self, method: str, url: str, headers: Mapping[str, str], body: Body) -> Answer:
        """Send without authentication or redirects; raises Unavailable."""
        data: Any = body() if callable(body) else body
        parts = urlsplit(url)
        tls: ssl.SSLContext | bool = True
        if parts.scheme == "https":
            tls = self.hosts.context(parts.netloc)
        elif parts.scheme != "http":
            raise PermissionDenied(f"registry: {url}: not a web address")
        try:
            response = await self._open().request(
                method,
                URL(url, encoded=True),
                data=data,
                headers=headers,
                ssl=tls,
                allow_redirects=False,
            )
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise unavailable(url, error) from error
        except ValueError as error:
            raise DataLoss(f"registry: {url[:200]!r}: {error}") from error
        return Answer(response, url)

    async def authorize(self, request: _Request, answer: Answer) -> str:
        """Return the ``Authorization`` that meets a 401.

        Raises:
            Unauthenticated: no login, or one that the registry does not take.
            PermissionDenied: the login would go to somebody else.
        """
        wanted = auth.challenge(answer.headers.getall("WWW-Authenticate", []))
        login = request.credentials
        if wanted is None:
            raise await failure(answer)
        if wanted.scheme == "basic":
            if login is None or not login.username:
                raise await failure(answer)
            return aiohttp.BasicAuth(login.username, login.password, "utf-8").encode()
        return "Bearer " + (await self._token(request, wanted.parameters)).text

    async def _token(self, request: _Request, asked: Mapping[str, str]) -> auth.Token:
        login, realm = request.credentials, asked.get("realm", "")
        service = asked.get("service", "")
        scope = request.scope or asked.get("scope", "")
        key = (realm, service, scope, *_identity(login))
        found = self._tokens.get(key)
        # One that was refused may have been replaced by another request meanwhile.
        if found is not None and found.fresh and f"Bearer {found.text}" != request.refused:
            return found
        secure = request.base.startswith("https:") and not self.hosts.insecure(
            request.host.authority
        )
        auth.check_realm(realm, request.base, secure=secure, credentials=login is not None)
        token = await self._fetch_token(realm, service, scope, login)
        self._tokens[key] = token
        return token

    async def _fetch_token(
        self, realm: str, service: str, scope: str, login: Credentials | None
    ) -> auth.Token:
        scopes = scope.split()
        if login is not None and login.identity_token:
            form = {**auth.grant(login), "service": service, "scope": scope}
            form |= {"client_id": auth.CLIENT, "access_type": "offline"}
            body = URL.build(query=form).raw_query_string.encode()
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            answer = await self.send("POST", realm, headers, body)
        else:
            query = [("service", service)] if service else []
            query += [("scope", one) for one in scopes]
            headers = {}
            if login is not None and login.username:
                query += [("account", login.username), ("client_id", auth.CLIENT)]
                basic = aiohttp.BasicAuth(login.username, login.password, "utf-8")
                headers["Authorization"] = basic.encode()
            url = URL(realm).extend_query(query)
            answer = await self.send("GET", str(url), headers, None)
        async with answer:
            if answer.status != 200:
                raise await failure(answer)
            return auth.token_of(await answer.read(), realm)


class _Request:
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
    ) -> None:
        self.client, self.host, self.method, self.path = client, host, method, path
        self.scope, self.credentials, self.body = scope, credentials, body
        self.headers = dict(headers)
        self.base = ""
        self.refused = ""
        """What was shown and not taken: it has expired, or never was enough."""
        self._authorization = ""

    async def send(self) -> Answer:
        """Send it; what comes back has no redirect and no challenge that we could meet."""
        self.base = f"{await self.client.scheme(self.host)}://{self.host.authority}"
        url = urljoin(self.base, self.path)
        key = (self.host.authority, repr(_identity(self.credentials)) + self.scope)
        known = self.client._logins.get(key, "")
        self._authorization = self._authorization or known
        for _ in range(2):
            answer = await self._follow(url)
            if answer.status != 401:
                if self._authorization and answer.status < 400:
                    self.client._logins[key] = self._authorization
                return answer
            async with answer:
                self.refused = self._authorization
                fresh = await self.client.authorize(self, answer)
                if fresh == self._authorization:
                    raise await failure(answer)
                self._authorization = fresh
        return await self._follow(url)

    async def _follow(self, url: str) -> Answer:
        """Follow redirects; the authorization goes to the registry's own host alone."""
        home = urlsplit(url).netloc
        async with AsyncExitStack() as stack:
            for _ in range(REDIRECTS + 1):
                headers = dict(self.headers)
                if self._authorization and urlsplit(url).netloc == home:
                    headers["Authorization"] = self._authorization
                answer = await self.client.send(self.method, url, headers, self.body)
                if answer.status not in (301, 302, 303, 307, 308) or self.method not in (
                    "GET",
                    "HEAD",
                ):
                    return answer
                stack.push_async_exit(answer)
                url = self._redirected(url, answer.headers.get("Location", ""))
        raise DataLoss(f"registry: {self.base}{self.path}: more than {REDIRECTS} redirects")

    def _redirected(self, url: str, location: str) -> str:
        target = urljoin(url, location)
        here, there = urlsplit(url), urlsplit(target)
        if not location or there.scheme not in ("http", "https") or not there.hostname:
            raise PermissionDenied(f"registry: {url}: leads to {location[:200]!r}: no web address")
        if here.scheme == "https" and there.scheme == "http":
            raise PermissionDenied(
                f"registry: {url}: leads to {target[:200]}, which is not secured"
            )
        if there.hostname != here.hostname and _internal(there.hostname):
            raise PermissionDenied(
                f"registry: {url}: leads to {there.hostname}, an address of this machine or its "
                "provider: refused"
            )
        return target


def _internal(host: str) -> bool:
    """Whether an address is one that only this machine, or its provider's metadata, has."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return address.is_loopback or address.is_link_local or address.is_unspecified


def _identity(login: Credentials | None) -> tuple[str, str, str]:
    if login is None:
        return ("", "", "")
    return (login.username, login.password, login.identity_token)


def _backoff(attempt: int) -> float:
    """Seconds before the next attempt: 0.2, 0.4, ... with half as much of chance."""
    return 0.2 * 2.0**attempt * (1 + random.random() / 2)


def _wait(header: str | None, attempt: int) -> float:
    if header is None:
        return _backoff(attempt)
    try:
        seconds = float(header)
    except ValueError:
        when = email.utils.parsedate_to_datetime(header) if _is_date(header) else None
        seconds = when.timestamp() - time.time() if when else _backoff(attempt)
    return min(max(seconds, 0.0), LONGEST_WAIT)


def _is_date(header: str) -> bool:
    return email.utils.parsedate(header) is not None
