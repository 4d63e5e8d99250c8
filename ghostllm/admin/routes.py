"""The routes of the admin API, all below `/admin/api`."""

from __future__ import annotations

from typing import Any

from ghostllm.admin.guard import changing, reading
from ghostllm.admin.query import LONGEST_NAME, answer, filters, rows_of
from ghostllm.errors import NotFound, RequestError
from ghostllm.gateway.routes import Route, id_behind
from ghostllm.message import Exchange
from ghostllm.ports import History, Operations, Responder, Work

REQUEST = "/admin/api/requests/"
BACKEND = "/admin/api/backends/"
OUTCOMES = ("failed", "open", "ok", "error", "broken", "cancelled")
FILTERS = ("limit", "outcome", "model", "key")


def routes(operations: Operations, history: History) -> list[Route]:
    api = AdminApi(operations, history)
    return [
        Route("admin_status", "/admin/api/status", {"GET": reading(api.status)}),
        Route("admin_requests", "/admin/api/requests", {"GET": reading(api.requests)}),
        Route("admin_request", REQUEST, {"GET": reading(api.request)}, prefix=True),
        Route("admin_backends", "/admin/api/backends", {"GET": reading(api.backends)}),
        Route("admin_backend", BACKEND, {"GET": reading(api.backend), "POST": changing(api.tell_backend)},
              prefix=True),
        Route("admin_models", "/admin/api/models", {"GET": reading(api.models)}),
        Route("admin_splits", "/admin/api/splits", {"GET": reading(api.splits)}),
    ]  # fmt: skip


class AdminApi:
    """The handlers. They raise GhostError for the client."""

    def __init__(self, operations: Operations, history: History) -> None:
        self._operations = operations
        self._history = history

    def status(self, exchange: Exchange, responder: Responder) -> None:
        answer(exchange, responder, self._operations.status())

    # --- requests

    def requests(self, exchange: Exchange, responder: Responder) -> None:
        given = filters(exchange.request.query, FILTERS)
        limit, outcome = rows_of(given), given.get("outcome")
        if outcome is not None and outcome not in OUTCOMES:
            raise RequestError(f"outcome is one of {', '.join(OUTCOMES)}", param="outcome")
        rows = self._history.latest(limit, outcome=outcome, model=given.get("model"), key=given.get("key"))
        answer(exchange, responder, {"requests": rows, "keep": self._history.keep})

    def request(self, exchange: Exchange, responder: Responder) -> None:
        name = id_behind(REQUEST, exchange.request.path)
        found = self._history.find(name)
        if found is None:
            keep = self._history.keep
            known = (
                f"of those that asked for a model or failed, the last {keep} are kept (routing.explain)"
                if keep
                else "none is, as routing.explain is 0"
            )
            raise NotFound(f"request {name[:LONGEST_NAME]!r} is not kept: {known}")
        answer(exchange, responder, found)

    # --- backends

    def backends(self, exchange: Exchange, responder: Responder) -> None:
        answer(exchange, responder, {"backends": self._operations.backends()})

    def backend(self, exchange: Exchange, responder: Responder) -> None:
        answer(exchange, responder, self._find(id_behind(BACKEND, exchange.request.path)))

    def tell_backend(self, exchange: Exchange, responder: Responder) -> Work | None:
        """`drain` and `undrain` answer with the backend as it is then, `probe` with what was found."""
        name, _, action = id_behind(BACKEND, exchange.request.path).rpartition("/")
        if action == "probe" and name:
            self._find(name)
            return responder.run(self._probe(name, exchange, responder))
        if action not in ("drain", "undrain") or not name:
            raise NotFound(f"no such action: POST {BACKEND}NAME/drain, NAME/undrain or NAME/probe")
        self._find(name)
        self._operations.drain(name, action == "drain")
        answer(exchange, responder, self._find(name))
        return None

    async def _probe(self, name: str, exchange: Exchange, responder: Responder) -> None:
        answer(exchange, responder, await self._operations.probe(name))

    def _find(self, name: str) -> dict[str, Any]:
        backends = self._operations.backends()
        for backend in backends:
            if backend["name"] == name:
                return backend
        names = ", ".join(str(backend["name"]) for backend in backends) or "none"
        raise NotFound(f"no backend {name[:LONGEST_NAME]!r}; there are: {names}")

    # --- models

    def models(self, exchange: Exchange, responder: Responder) -> None:
        answer(exchange, responder, {"models": self._operations.models()})

    def splits(self, exchange: Exchange, responder: Responder) -> None:
        answer(exchange, responder, {"splits": self._operations.splits()})
