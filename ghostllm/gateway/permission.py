"""Who may do what: groups of routes, each perhaps with some models only. What grants it is the identity's own
knowledge (`Identity.may`); here it is asked, and who is refused is told why.
"""

from __future__ import annotations

from ghostllm.errors import Forbidden
from ghostllm.gateway.snapshot import Snapshot
from ghostllm.message import Exchange, Identity
from ghostllm.ports import Handler, Pending, Responder, Work

NOBODY = (
    "this gateway has no keys, and without one that is only for this machine itself, by a URL such as "
    "http://127.0.0.1:8080: set [[keys]], one of them with the role admin, to do it from elsewhere"
)


def refused(identity: Identity, group: str) -> Forbidden:
    """The error for who may not do this at all."""
    if not identity.roles:
        return Forbidden(NOBODY)
    roles = ", ".join(identity.roles)
    return Forbidden(f"key {identity.key!r} may not do this: none of its roles ({roles}) permits {group!r}")


def refused_model(identity: Identity, model: str) -> Forbidden:
    return Forbidden(f"key {identity.key!r} may not use model {model[:200]!r}", param="model")


def require_model(snapshot: Snapshot, exchange: Exchange, name: str) -> None:
    """For who is confined to some models, before anything is said or shared of this one. Raises Forbidden."""
    identity = exchange.identity
    model = snapshot.catalog().find(name)
    if not (identity.may(exchange.group, name) if model is None else model.open_to(identity, exchange.group)):
        raise refused_model(identity, name)


class Admission:
    """Implements ports.Work: finding out who sends a request, and then the request itself."""

    __slots__ = ("_exchange", "_handler", "_pending", "_responder", "_work")

    def __init__(self, pending: Pending, handler: Handler, exchange: Exchange, responder: Responder) -> None:
        self._pending = pending
        self._handler = handler
        self._exchange = exchange
        self._responder = responder
        self._work: Work | None = None

    def __repr__(self) -> str:
        return f"<Admission of {self._exchange!r}>"

    def start(self) -> None:
        self._work = self._responder.run(self._settle())

    def cancel(self) -> None:
        """The client has left."""
        work, self._work = self._work, None
        if work is not None:
            work.cancel()

    async def _settle(self) -> None:
        identity = await self._pending.settle()
        exchange = self._exchange
        exchange.identity = identity
        if not identity.may(exchange.group):
            raise refused(identity, exchange.group)
        self._work = self._handler(exchange, self._responder)
