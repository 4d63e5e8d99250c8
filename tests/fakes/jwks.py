"""An issuer of tokens as a process would meet it: real keys, published at real addresses of this machine."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa

KEYS = "/keys"
WELL_KNOWN = "/.well-known/openid-configuration"


class Issuer:
    """keys: by kid, of those that are published. hold: no answer until it is set. away: it answers 503."""

    def __init__(self) -> None:
        self.keys: dict[str, Any] = {}
        self.asked: list[str] = []
        self.away = False
        self.hold = threading.Event()
        self.hold.set()
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked.append(self.path)
                issuer.hold.wait(30)
                body = json.dumps(issuer._page(self.path)).encode()
                self.send_response(503 if issuer.away else 200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                with contextlib.suppress(OSError):
                    self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def __enter__(self) -> Issuer:
        return self

    def __exit__(self, *_: object) -> None:
        self.hold.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def add(self, kid: str, kind: str = "RS256") -> None:
        """A new key, published from now on."""
        self.keys[kid] = (
            rsa.generate_private_key(65537, 2048)
            if kind == "RS256"
            else ec.generate_private_key(ec.SECP256R1())
        )

    def token(self, kid: str, algorithm: str = "RS256", key: Any = None, **changed: Any) -> str:
        """Times in `changed` are seconds from now; None leaves a claim away."""
        now = time.time()
        claims = {"iss": self.url, "sub": "ann", "aud": "gateway", "exp": 600, **changed}
        for name in ("exp", "nbf"):
            if claims.get(name) is not None:
                claims[name] += now
        claims = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(claims, key or self.keys[kid], algorithm, {"kid": kid})

    def _page(self, path: str) -> dict[str, Any]:
        if path == WELL_KNOWN:
            return {"issuer": self.url, "jwks_uri": self.url + KEYS}
        if path != KEYS:
            return {}
        return {"keys": [_public(kid, key) for kid, key in self.keys.items()]}


def _public(kid: str, key: Any) -> dict[str, Any]:
    name = "RS256" if isinstance(key, rsa.RSAPrivateKey) else "ES256"
    made: dict[str, Any] = jwt.get_algorithm_by_name(name).to_jwk(key.public_key(), as_dict=True)
    return {name: value for name, value in made.items() if name != "key_ops"} | {"kid": kid}
