"""The routes of the admin API about the cache."""

from __future__ import annotations

from ghostllm import jsonx
from ghostllm.admin.guard import changing, reading
from ghostllm.admin.query import answer
from ghostllm.errors import RequestError
from ghostllm.gateway.routes import Route
from ghostllm.message import Exchange
from ghostllm.ports import CacheOperations, Responder, Work

MEMBERS = ("model", "key", "team")
LONGEST_NAME = 200


def routes(operations: CacheOperations) -> list[Route]:
    api = CacheApi(operations)
    return [
        Route("admin_cache", "/admin/api/cache", {"GET": reading(api.figures)}),
        Route("admin_cache_flush", "/admin/api/cache/flush", {"POST": changing(api.flush)}),
    ]


class CacheApi:
    """The handlers. They raise GhostError for the client."""

    def __init__(self, operations: CacheOperations) -> None:
        self._operations = operations

    def figures(self, exchange: Exchange, responder: Responder) -> None:
        answer(exchange, responder, self._operations.figures())

    def flush(self, exchange: Exchange, responder: Responder) -> Work:
        """Body: nothing, or an object with `model` (a name or pattern), and `key` or `team`."""
        given = _members(bytes(exchange.request.body))
        if given["key"] and given["team"]:
            raise RequestError("key and team: one of them at the most", param="team")
        return responder.run(self._flush(given, exchange, responder))

    async def _flush(self, given: dict[str, str], exchange: Exchange, responder: Responder) -> None:
        told = await self._operations.flush(given["model"], given["key"], given["team"])
        answer(exchange, responder, told)


def _members(body: bytes) -> dict[str, str]:
    """An unknown one is refused: its sender would have all forgotten where it meant a few."""
    try:
        value = jsonx.loads(body) if body.strip() else {}
    except jsonx.DecodeError as error:
        raise RequestError(f"the body is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise RequestError("the body must be a JSON object, or nothing")
    for name, said in value.items():
        if name not in MEMBERS:
            raise RequestError(
                f"no member {name[:LONGEST_NAME]!r}; there are: {', '.join(MEMBERS)}",
                param=name[:LONGEST_NAME],
            )
        if not isinstance(said, str) or not said:
            raise RequestError(f"{name} must be a name", param=name)
    return {name: value.get(name, "") for name in MEMBERS}
