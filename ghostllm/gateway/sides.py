"""Listeners of the admin API's own: what answers there, and what answers on the others then."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ghostllm.errors import GhostError
from ghostllm.gateway.routes import Route, Routes
from ghostllm.message import Exchange, Pairs, Request
from ghostllm.ports import Handler

if TYPE_CHECKING:
    from ghostllm.gateway.gateway import Gateway

ON_BOTH = frozenset(("health", "ready", "version", "metrics", "openapi"))


def is_admin(route: Route) -> bool:
    return route.name.startswith("admin_")


class AdminSide:
    """Implements ports.Application with the admin routes of a gateway, and those that tell how it is."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._routes = Routes([one for one in gateway.routes.all if is_admin(one) or one.name in ON_BOTH])

    def __repr__(self) -> str:
        return f"<AdminSide of {self._gateway!r}>"

    def open(self, request: Request, now: float) -> tuple[Exchange, Handler | None]:
        return self._gateway.open(request, now, self._routes)

    def malformed(self, error: GhostError, peer: str, now: float) -> Exchange:
        return self._gateway.malformed(error, peer, now)

    def render(self, exchange: Exchange) -> tuple[int, Pairs, bytes]:
        return self._gateway.render(exchange)

    def closed(self, exchange: Exchange) -> None:
        self._gateway.closed(exchange)
