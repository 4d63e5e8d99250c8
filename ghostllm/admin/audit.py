"""The audit log, read by operators."""

from __future__ import annotations

import re

from ghostllm.admin.guard import reading
from ghostllm.admin.query import answer, filters, rows_of
from ghostllm.errors import RequestError
from ghostllm.gateway.routes import Route
from ghostllm.message import Exchange
from ghostllm.observe.render import timestamp
from ghostllm.ports import Responder, Work
from ghostllm.state.audit import OUTCOMES, AuditTrail

FILTERS = ("limit", "before", "who", "action", "outcome")


def routes(trail: AuditTrail) -> list[Route]:
    return [Route("admin_audit", "/admin/api/audit", {"GET": reading(AuditApi(trail).latest)})]


class AuditApi:
    """The handler. It raises GhostError for the client."""

    def __init__(self, trail: AuditTrail) -> None:
        self._trail = trail

    def latest(self, exchange: Exchange, responder: Responder) -> Work:
        """The newest first. `before`: a row's number, for the page after it."""
        given = filters(exchange.request.query, FILTERS)
        before, outcome = given.get("before"), given.get("outcome")
        if before is not None and not re.fullmatch("[0-9]{1,18}", before, re.ASCII):
            raise RequestError("before is the number of a row", param="before")
        if outcome is not None and outcome not in OUTCOMES:
            raise RequestError(f"outcome is one of {', '.join(OUTCOMES)}", param="outcome")
        limit = rows_of(given)
        return responder.run(self._latest(limit, before, given, exchange, responder))

    async def _latest(
        self, limit: int, before: str | None, given: dict[str, str], exchange: Exchange, responder: Responder
    ) -> None:
        rows = await self._trail.latest(
            limit,
            before=None if before is None else int(before),
            who=given.get("who"),
            action=given.get("action"),
            outcome=given.get("outcome"),
        )
        told = [
            {"number": number, "time": timestamp(action.time), **action.told()} for number, action in rows
        ]
        answer(exchange, responder, {"audit": told, "keep": self._trail.keep,
                                     "persistent": self._trail.persistent})  # fmt: skip
