"""``/auth``, ``/distribution``, and the login that a request brings for a registry."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any

import msgspec

from boxwood.api.http.message import Response, json_response
from boxwood.api.routing import JSON_BODY, OWN, Route
from boxwood.drivers.extension import PublicKey
from boxwood.drivers.registry import Credentials
from boxwood.errors import InvalidArgument
from boxwood.model.reference import Reference
from boxwood.model.wire import Wire
from boxwood.services.images.manifestlists import ManifestList

if TYPE_CHECKING:
    from boxwood.api.call import Call


class AuthConfig(Wire):
    """A login as clients send it."""

    username: str = ""
    password: str = ""
    auth: str = ""
    serveraddress: str = ""
    identitytoken: str = ""
    registrytoken: str = ""


def login_of(call: Call) -> Credentials | None:
    """Return the login of ``X-Registry-Auth``; what cannot be read is no login, as in Docker."""
    text = call.request.header("x-registry-auth")
    try:
        data = base64.b64decode(text.translate(_URL_SAFE) + "=" * (-len(text) % 4), validate=True)
        found = msgspec.json.decode(data, type=AuthConfig)
    except (binascii.Error, ValueError, msgspec.MsgspecError):
        return None
    return credentials(found)


_URL_SAFE = str.maketrans("-_", "+/")


def credentials(found: AuthConfig) -> Credentials | None:
    """Return what a login holds; None: nothing."""
    username, password = found.username, found.password
    if found.auth and not username:
        try:
            text = base64.b64decode(found.auth, validate=True).decode()
        except (binascii.Error, ValueError):
            raise InvalidArgument("login: auth: not base64 of USER:PASSWORD") from None
        username, _, password = text.partition(":")
    if not username and not found.identitytoken and not found.registrytoken:
        return None
    token = found.registrytoken
    if not token.isascii() or not token.isprintable() or " " in token:
        raise InvalidArgument("login: registrytoken: other characters than a token's")
    return Credentials(username, password, found.identitytoken, token)


async def auth(call: Call) -> Response:
    """``POST /auth``: try a login at a registry."""
    wanted = call.body(AuthConfig)
    server = wanted.serveraddress.removeprefix("https://").removeprefix("http://")
    domain = server.partition("/")[0] or "index.docker.io"
    login = credentials(wanted)
    if login is None:
        raise InvalidArgument("login: a user name and a password, or an identity token, is needed")
    token = await call.engine.images.shipping.login(domain, login)
    return json_response({"Status": "Login Succeeded", "IdentityToken": token})


async def distribution(call: Call) -> Response:
    """``GET /distribution/{name}/json``"""
    reference = Reference.parse(call.params["name"]).with_default_tag()
    shown: dict[str, Any] = await call.engine.images.shipping.distribution(
        reference, login_of(call)
    )
    return json_response(shown)


async def search(call: Call) -> Response:
    """``GET /images/search``"""
    term = call.text("term")
    if not term:
        raise InvalidArgument("search: term: no value was specified")
    found = await call.engine.images.shipping.search(
        term, call.number("limit", 0), call.filters(), login_of(call)
    )
    return json_response([{**msgspec.to_builtins(one), "is_automated": False} for one in found])


async def manifest(call: Call) -> Response:
    """``GET /boxwood/manifests/{name}``: a registry's manifest or index, whole."""
    reference = Reference.parse(call.params["name"]).with_default_tag()
    return json_response(await call.engine.images.shipping.manifest(reference, login_of(call)))


async def push_manifests(call: Call) -> Response:
    """``POST /boxwood/manifests/{name}``: push a list of manifests."""
    target = Reference.parse(call.params["name"]).with_default_tag()
    made = call.body(ManifestList)
    return json_response(
        await call.engine.images.shipping.push_manifests(target, made, login_of(call))
    )


class VerifyKey(Wire):
    """A public key to verify by."""

    name: str = msgspec.field(default="", name="Name")
    data: str = msgspec.field(default="", name="Data")


class VerifyRequest(Wire):
    """Whose signature to verify."""

    name: str = msgspec.field(name="Name")
    platform: str = msgspec.field(default="", name="Platform")
    keys: tuple[VerifyKey, ...] = msgspec.field(default=(), name="Keys")


async def verify(call: Call) -> Response:
    """``POST /boxwood/verify``: verify the signature of an image in its registry."""
    wanted = call.body(VerifyRequest)
    reference = Reference.parse(wanted.name).with_default_tag()
    keys = tuple(PublicKey(key.name, key.data.encode()) for key in wanted.keys)
    verdict = await call.engine.images.shipping.verify(
        reference, wanted.platform, login_of(call), keys
    )
    return json_response(
        {
            "Name": reference.familiar,
            "Digest": verdict.digest,
            "Key": verdict.key,
            "Identity": verdict.identity,
        }
    )


ROUTES = (
    Route(
        "GET",
        "/boxwood/manifests/{name}",
        manifest,
        action="registry.inspect",
        about="name",
        state=OWN,
        cancel=True,
    ),
    Route(
        "POST",
        "/boxwood/manifests/{name}",
        push_manifests,
        body=JSON_BODY,
        action="image.push",
        about="name",
        state=OWN,
        cancel=True,
    ),
    Route(
        "POST",
        "/boxwood/verify",
        verify,
        body=JSON_BODY,
        action="image.verify",
        state=OWN,
        cancel=True,
    ),
    Route("GET", "/images/search", search, action="image.search", cancel=True),
    Route("POST", "/auth", auth, body=JSON_BODY, action="registry.login"),
    Route(
        "GET",
        "/distribution/{name}/json",
        distribution,
        action="registry.inspect",
        about="name",
        cancel=True,
    ),
)
