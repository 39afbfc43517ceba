"""A token server for Debian's docker-registry: who is `me` with the password `secret` may do all.

Sources: distribution's token specification (JWT claims) and its OAuth2 addition; RFC 7518 3.4.
"""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import json
import secrets
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

BASIC = "Basic " + base64.b64encode(b"me:secret").decode()
SERVICE, ISSUER = "a registry", "a token server"
LIFETIME = 300
"""Seconds that a token lives."""


class TokenServer:
    """The server, its key, and what it was asked: method and fields of each request."""

    def __init__(self, room: Path) -> None:
        """``room``: where the certificate goes that the registry trusts."""
        self.asked: list[tuple[str, dict[str, list[str]]]] = []
        self.lasting: set[str] = set()
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._certificate = _certificate(self._key)
        self._bundle = room / "tokens.pem"
        self._bundle.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))
        kind = type("Handler", (_Handler,), {"it": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def settings(self) -> dict[str, Any]:
        """What the registry's configuration says of it."""
        return {
            "auth": {
                "token": {
                    "realm": f"http://127.0.0.1:{self._server.server_address[1]}/token",
                    "service": SERVICE,
                    "issuer": ISSUER,
                    "rootcertbundle": str(self._bundle),
                }
            }
        }

    @contextlib.contextmanager
    def serving(self) -> Iterator[TokenServer]:
        """Serve until the end of the block."""
        self._thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()

    def token(self, scopes: list[str]) -> str:
        """Return a token that allows all that is asked for."""
        access = []
        for scope in scopes:
            kind, _, rest = scope.partition(":")
            name, _, actions = rest.rpartition(":")
            access.append({"type": kind, "name": name, "actions": actions.split(",")})
        now = int(time.time())
        chain = self._certificate.public_bytes(serialization.Encoding.DER)
        head = {"typ": "JWT", "alg": "ES256", "x5c": [base64.b64encode(chain).decode()]}
        claims = {
            "iss": ISSUER, "sub": "me", "aud": SERVICE, "exp": now + LIFETIME, "nbf": now - 10,
            "iat": now, "jti": secrets.token_hex(8), "access": access,
        }  # fmt: skip
        text = ".".join(_encoded(json.dumps(part).encode()) for part in (head, claims))
        one, other = decode_dss_signature(self._key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{text}.{_encoded(one.to_bytes(32, 'big') + other.to_bytes(32, 'big'))}"


def _certificate(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, ISSUER)])
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - dt.timedelta(hours=1))
    builder = builder.not_valid_after(now + dt.timedelta(days=1))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
    return builder.sign(key, hashes.SHA256())


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class _Handler(BaseHTTPRequestHandler):
    it: ClassVar[TokenServer]

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        fields = parse_qs(self.path.partition("?")[2])
        self._serve(fields, self.headers.get("Authorization") == BASIC)

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        fields = parse_qs(self.rfile.read(length).decode())
        self._serve(fields, fields.get("refresh_token", [""])[0] in self.it.lasting)

    def _serve(self, fields: dict[str, list[str]], known: bool) -> None:
        self.it.asked.append((self.command, fields))
        scopes = [one for text in fields.get("scope", []) for one in text.split()]
        answer: dict[str, Any] = {"expires_in": LIFETIME}
        status = 200
        if known:
            answer["token"] = answer["access_token"] = self.it.token(scopes)
            if "offline_token" in fields:
                answer["refresh_token"] = secrets.token_hex(16)
                self.it.lasting.add(answer["refresh_token"])
        elif "Authorization" in self.headers or self.command == "POST":
            error = {"code": "UNAUTHORIZED", "message": "incorrect username or password"}
            status, answer = 401, {"errors": [error]}
        else:
            answer["token"] = self.it.token([])
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
