"""The route of the document."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ghostllm import jsonx
from ghostllm.gateway.operate import JSON
from ghostllm.gateway.routes import Route
from ghostllm.message import Exchange
from ghostllm.ports import Responder

PATH = "/openapi.json"


def route(table: Callable[[], Sequence[Route]]) -> Route:
    """Open, as the version is: it says what any gateway of this version has, and nothing of this one. table:
    all routes there are, this one too.
    """
    written = b""

    def handle(exchange: Exchange, responder: Responder) -> None:
        nonlocal written
        if not written:
            from ghostllm.admin.openapi.document import document  # late: most gateways are never asked

            written = jsonx.dumps(document(table()))
        exchange.outcome = "ok"
        responder.respond(200, JSON, written)

    return Route("openapi", PATH, {"GET": handle}, open=True)
