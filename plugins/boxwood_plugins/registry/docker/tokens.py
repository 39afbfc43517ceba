"""Tokens: fetched from the server that a registry names, kept until they end."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from yarl import URL

from boxwood_plugins.registry.docker import auth
from boxwood_plugins.registry.docker.addresses import led
from boxwood_plugins.registry.docker.answers import Answer, failure

if TYPE_CHECKING:
    from boxwood.drivers.registry import Credentials
    from boxwood_plugins.registry.docker.client import Client, Request

KEPT = 1_000
"""Tokens that are kept; the oldest goes."""


class Tokens:
    """All tokens of a client."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._kept: dict[tuple[str, ...], auth.Token] = {}
        self._asking: WeakValueDictionary[tuple[str, ...], asyncio.Lock] = WeakValueDictionary()

    async def authorize(self, request: Request, answer: Answer) -> str:
        """Return the ``Authorization`` that meets a 401.

        Raises:
            Unauthenticated: no login, or one that the registry does not take.
            PermissionDenied: the login would go to somebody else.
        """
        wanted = auth.challenge(answer.headers.getall("WWW-Authenticate", []))
        login = request.credentials
        if wanted is None or (login is not None and login.registry_token):
            raise await failure(answer)
        if wanted.scheme == "basic":
            if login is None or not login.username:
                raise await failure(answer)
            return auth.basic(login)
        return "Bearer " + (await self._token(request, wanted.parameters)).text

    async def _token(self, request: Request, asked: Mapping[str, str]) -> auth.Token:
        realm, service = asked.get("realm", ""), asked.get("service", "")
        scope = request.scope or asked.get("scope", "")
        key = (realm, service, scope, *auth.identity(request.credentials))
        # Requests that are refused together ask once, and take what the first of them got.
        lock = self._asking.setdefault(key, asyncio.Lock())
        async with lock:
            found = None if request.offline else self._kept.get(key)
            if found is None or not found.fresh or f"Bearer {found.text}" == request.refused:
                found = self._kept[key] = await self._ask(request, realm, service, scope)
            if len(self._kept) > KEPT:
                del self._kept[next(iter(self._kept))]
        return found

    async def _ask(self, request: Request, realm: str, service: str, scope: str) -> auth.Token:
        login = request.credentials
        hosts = self._client.hosts
        secure = request.base.startswith("https:") and not hosts.insecure(request.host.authority)
        url, strict = led(request.base, request.base, realm, self._client.resolver)
        auth.check_realm(url, request.base, secure=secure, credentials=login is not None)
        asking = _Asking(url, service, scope.split(), login, request.offline)
        answer = await self._client.send(*asking.request(), strict=strict)
        async with answer:
            if answer.status != 200:
                raise await failure(answer)
            token, request.identity_token = auth.token_of(await answer.read(), url)
        return token


class _Asking:
    """One question to a token server: OAuth2 for an identity token, else GET."""

    def __init__(
        self,
        realm: str,
        service: str,
        scopes: list[str],
        login: Credentials | None,
        offline: bool,
    ) -> None:
        self._realm, self._service, self._scopes = realm, service, scopes
        self._login, self._offline = login, offline

    def request(self) -> tuple[str, str, dict[str, str], bytes | None]:
        """Return method, URL, headers and body."""
        login = self._login
        if login is not None and login.identity_token:
            form = {**auth.grant(login), "service": self._service}
            form |= {"client_id": auth.CLIENT, "access_type": "offline"}
            if self._scopes:
                form["scope"] = " ".join(self._scopes)
            body = URL.build(query=form).raw_query_string.encode()
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            return "POST", self._realm, headers, body
        query = [("service", self._service)] if self._service else []
        query += [("scope", one) for one in self._scopes]
        headers = {}
        if login is not None and login.username:
            query += [("account", login.username), ("client_id", auth.CLIENT)]
            headers["Authorization"] = auth.basic(login)
        if self._offline:
            query.append(("offline_token", "true"))
        return "GET", str(URL(self._realm, encoded=True).extend_query(query)), headers, None
