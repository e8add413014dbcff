"""An OpenID Connect provider whose private keys the tests hold, so that they can sign what no honest one would."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, RSAKey


class ForgingIssuer:
    """Tells its public keys by discovery, counts who asks, and signs anything.

    Attributes:
        asked: the paths of all requests.
    """

    audience = "https://hpc.test"

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.key = RSAKey.generate_key(2048, {"kid": "rsa"}, private=True)
        self.elliptic = ECKey.generate_key("P-256", {"kid": "ec"}, private=True)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.issuer = f"http://127.0.0.1:{self._server.server_address[1]}"

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Those of a token that a gateway which trusts this issuer takes; None leaves a claim out."""
        now = int(time.time())
        good = {
            "iss": self.issuer, "aud": self.audience, "sub": "alice", "preferred_username": "alice",
            "iat": now, "exp": now + 300,
        }  # fmt: skip
        return {name: value for name, value in (good | changes).items() if value is not None}

    def token(self, header: dict[str, Any] | None = None, key: Any = None, **changes: Any) -> str:
        """Signed by its RSA key unless another is given."""
        key = key or self.key
        head = {"alg": "RS256", "kid": key.kid} | (header or {})
        return jwt.encode(head, self.claims(**changes), key, algorithms=[head["alg"]])

    def documents(self) -> dict[str, object]:
        """What it answers, by path."""
        return {
            "/.well-known/openid-configuration": {"issuer": self.issuer, "jwks_uri": f"{self.issuer}/keys"},
            "/keys": KeySet([self.key, self.elliptic]).as_dict(private=False),
        }

    def rotate(self) -> None:
        """Another RSA key in the place of the one it had."""
        self.key = RSAKey.generate_key(2048, {"kid": f"{self.key.kid}-later"}, private=True)

    @contextmanager
    def serving(self) -> Iterator[ForgingIssuer]:
        thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()


def _handler(issuer: ForgingIssuer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            issuer.asked.append(self.path)
            found = issuer.documents().get(self.path)
            body = json.dumps(found).encode()
            self.send_response(404 if found is None else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    return Handler
