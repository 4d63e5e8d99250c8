"""API keys by the admin API: listed, made, rotated, revoked. A key itself is in the one answer that hands it
out, and nowhere else.
"""

from __future__ import annotations

from typing import Any

from ghostllm import jsonx
from ghostllm.admin.guard import changing, reading
from ghostllm.admin.query import answer
from ghostllm.errors import NotFound, RequestError
from ghostllm.gateway.generate import body_of
from ghostllm.gateway.routes import Route, id_behind
from ghostllm.message import Exchange
from ghostllm.ports import Keys, Responder, Work

KEYS = "/admin/api/keys"
KEY = f"{KEYS}/"
LARGEST_BODY = 65_536


def routes(keys: Keys) -> list[Route]:
    api = KeysApi(keys)
    one = {"GET": reading(api.one), "POST": changing(api.rotate), "DELETE": changing(api.revoke)}
    return [
        Route("admin_keys", KEYS, {"GET": reading(api.all), "POST": changing(api.create)}),
        Route("admin_key", KEY, one, prefix=True),
    ]


class KeysApi:
    """The handlers. They raise GhostError for the client."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    def all(self, exchange: Exchange, responder: Responder) -> None:
        answer(exchange, responder, {"keys": self._keys.keys()})

    def one(self, exchange: Exchange, responder: Responder) -> None:
        """All keys of a name, or that of an id."""
        which = id_behind(KEY, exchange.request.path)
        found = [key for key in self._keys.keys() if which in (key["name"], key["id"])]
        if not found:
            raise NotFound(f"no key has the id or the name {which[:200]!r}")
        answer(exchange, responder, {"keys": found})

    def create(self, exchange: Exchange, responder: Responder) -> Work:
        return responder.run(self._create(_object(exchange), exchange, responder))

    def rotate(self, exchange: Exchange, responder: Responder) -> Work:
        name, _, action = id_behind(KEY, exchange.request.path).rpartition("/")
        if action != "rotate" or not name:
            raise NotFound(f"no such action: POST {KEY}NAME/rotate, or DELETE {KEY}NAME to revoke it")
        return responder.run(self._rotate(name, _object(exchange), exchange, responder))

    def revoke(self, exchange: Exchange, responder: Responder) -> Work:
        which = id_behind(KEY, exchange.request.path)
        return responder.run(self._revoke(which, exchange, responder))

    async def _create(self, wanted: dict[str, Any], exchange: Exchange, responder: Responder) -> None:
        answer(exchange, responder, await self._keys.create(exchange.identity, wanted))

    async def _rotate(
        self, name: str, wanted: dict[str, Any], exchange: Exchange, responder: Responder
    ) -> None:
        answer(exchange, responder, await self._keys.rotate(exchange.identity, name, wanted))

    async def _revoke(self, which: str, exchange: Exchange, responder: Responder) -> None:
        answer(exchange, responder, {"keys": await self._keys.revoke(exchange.identity, which)})


def _object(exchange: Exchange) -> dict[str, Any]:
    """The body; an empty one asks for nothing in particular. Raises RequestError."""
    body = body_of(exchange.request, LARGEST_BODY)
    if len(body) > LARGEST_BODY:
        raise RequestError(f"the body is longer than {LARGEST_BODY} bytes")
    try:
        value = jsonx.loads(body) if body else {}
    except jsonx.DecodeError as error:
        raise RequestError(f"the body is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise RequestError("the body must be a JSON object")
    return value
