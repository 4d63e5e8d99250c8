"""The routes of the admin API for the configuration, below `/admin/api/config`."""

from __future__ import annotations

import re
from urllib.parse import parse_qs

from ghostllm import jsonx
from ghostllm.admin.guard import changing, reading
from ghostllm.admin.query import answer
from ghostllm.errors import ConfigError, RequestError
from ghostllm.gateway.operate import JSON
from ghostllm.gateway.routes import Route
from ghostllm.message import Exchange
from ghostllm.ports import Configurations, Responder, Work

CONFIG = "/admin/api/config"
INVALID = 422


def routes(configurations: Configurations) -> list[Route]:
    api = ConfigApi(configurations)
    return [
        Route("admin_config", CONFIG, {"GET": reading(api.show)}),
        Route("admin_config_history", f"{CONFIG}/history", {"GET": reading(api.history)}),
        Route("admin_config_diff", f"{CONFIG}/diff", {"GET": reading(api.diff)}),
        Route("admin_config_reload", f"{CONFIG}/reload", {"POST": changing(api.reload)}),
        Route("admin_config_rollback", f"{CONFIG}/rollback", {"POST": changing(api.rollback)}),
    ]


class ConfigApi:
    """The handlers. They raise GhostError for the client."""

    def __init__(self, configurations: Configurations) -> None:
        self._configurations = configurations

    def show(self, exchange: Exchange, responder: Responder) -> None:
        answer(exchange, responder, self._configurations.effective())

    def history(self, exchange: Exchange, responder: Responder) -> None:
        answer(exchange, responder, {"configurations": self._configurations.history()})

    def diff(self, exchange: Exchange, responder: Responder) -> Work:
        async def work() -> None:
            try:
                found = await self._configurations.difference()
            except ConfigError as error:
                return _invalid(exchange, responder, error)
            answer(exchange, responder, found)

        return responder.run(work())

    def reload(self, exchange: Exchange, responder: Responder) -> Work:
        async def work() -> None:
            try:
                done = await self._configurations.reload(_asker(exchange))
            except ConfigError as error:
                return _invalid(exchange, responder, error)
            answer(exchange, responder, done)

        return responder.run(work())

    def rollback(self, exchange: Exchange, responder: Responder) -> Work:
        to = _number(exchange.request.query)

        async def work() -> None:
            try:
                done = await self._configurations.rollback(_asker(exchange), to)
            except ConfigError as error:
                return _invalid(exchange, responder, error)
            answer(exchange, responder, done)

        return responder.run(work())


def _asker(exchange: Exchange) -> str:
    return f"admin API, {exchange.identity.key}"


def _number(query: str) -> int | None:
    """The one to go back to, where the query names it."""
    given = parse_qs(query, keep_blank_values=True, max_num_fields=10) if query.count("&") < 10 else {"?": []}
    strange = next((name for name in given if name != "to"), None)
    if strange is not None:
        raise RequestError(f"no field {strange[:100]!r}; there is: to", param=strange[:100])
    text = given.get("to", [""])[-1]
    if "to" in given and not re.fullmatch("[1-9][0-9]{0,9}", text, re.ASCII):
        raise RequestError("to is a number of the history", param="to")
    return int(text) if text else None


def _invalid(exchange: Exchange, responder: Responder, error: ConfigError) -> None:
    """OpenAI's shape, and every mistake by itself."""
    count = len(error.problems)
    words = f"{count} mistake{'s' if count != 1 else ''} in the configuration, which has not been applied"
    told = RequestError(f"{words}: {'; '.join(error.problems)}")
    told.code = "invalid_configuration"
    exchange.error, exchange.outcome = told, "error"
    body = {
        "error": {
            "message": told.message,
            "type": "invalid_request_error",
            "param": None,
            "code": told.code,
            "problems": error.problems,
        }
    }
    responder.respond(INVALID, JSON, jsonx.dumps(body))
