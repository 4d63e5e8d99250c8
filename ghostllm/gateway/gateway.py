"""The application behind the server: opens exchanges, has the route table, tells errors, closes the books."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count

from ghostllm.api.anthropic import door as anthropic
from ghostllm.api.doors import DOORS
from ghostllm.errors import GhostError, Overloaded
from ghostllm.gateway import counting, listing, ollama, operate, passage
from ghostllm.gateway.changes import audited
from ghostllm.gateway.cors import CorsPolicy
from ghostllm.gateway.doorway import door_of
from ghostllm.gateway.generate import Generator
from ghostllm.gateway.ollama import Ollama
from ghostllm.gateway.permission import Admission, refused
from ghostllm.gateway.responses import Responses
from ghostllm.gateway.routes import Route, Routes, grouped, missing
from ghostllm.gateway.sides import AdminSide, is_admin
from ghostllm.gateway.snapshot import Snapshot
from ghostllm.message import Exchange, Identity, Pairs, Request
from ghostllm.ports import Handler, Observer, Pending, Responder, Work
from ghostllm.state.responses import ResponseStore

SANE_REQUEST_ID = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._:/+=@-]{0,127}")

SnapshotHandler = Callable[[Snapshot, Exchange, Responder], Work | None]


@dataclass(slots=True, kw_only=True)
class Parts:
    """What a gateway is put together from, and keeps over changes of its snapshot. metrics: takes the Accept
    header; gives content type and text. group_of: the group of permissions of a route's name and a method; ""
    for what is open. routes: beside its own. audit: told of every exchange of a route that can change what
    runs, when it is over.
    """

    generator: Generator
    observer: Observer
    metrics: Callable[[bytes], tuple[str, bytes]]
    store: ResponseStore
    group_of: Callable[[str, str], str]
    routes: Sequence[Route] = ()
    audit: Callable[[Exchange], None] | None = None


class Gateway:
    """Implements ports.Application. `snapshot` may be replaced at any time; each exchange uses the one it
    began with. routes: all that it has; raises LookupError when one is in no group of permissions.
    """

    def __init__(self, snapshot: Snapshot, parts: Parts) -> None:
        self.draining = False
        self.ready: Callable[[], bool] = lambda: False
        self._observer = parts.observer
        self._metrics = parts.metrics
        self._generator = parts.generator
        self._responses = Responses(parts.generator, parts.store)
        self._id_prefix = f"req_{secrets.token_hex(6)}"
        self._ids = count(1)
        table = [*self._table(), *parts.routes]
        self.routes = Routes([grouped(route, parts.group_of) for route in table])
        self._here = self.routes
        self._audited = audited(self.routes.all)
        self._audit = parts.audit
        self.snapshot = snapshot

    @property
    def snapshot(self) -> Snapshot:
        return self._snapshot

    @snapshot.setter
    def snapshot(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        cors = snapshot.config.server.cors
        self._cors = CorsPolicy(cors) if cors.origins else None

    def part_admin(self) -> AdminSide:
        """From now on the admin API answers only there."""
        self._here = Routes([route for route in self.routes.all if not is_admin(route)])
        return AdminSide(self)

    def _table(self) -> list[Route]:
        return [
            self._calls("chat", "/v1/chat/completions", "openai", "chat"),
            self._calls("completions", "/v1/completions", "openai", "completions"),
            self._calls("embeddings", "/v1/embeddings", "openai", "embeddings"),
            *self._stored(),
            self._calls("messages", "/v1/messages", "anthropic", "messages"),
            self._counts("count_tokens", "/v1/messages/count_tokens", anthropic),
            *self._ollama(),
            *self._passages(),
            Route("models", "/v1/models", {"GET": self._with_snapshot(listing.models)}, door=""),
            Route("model", "/v1/models/", {"GET": self._with_snapshot(listing.model)}, prefix=True, door=""),
            Route("health", "/health", {"GET": operate.health}, open=True),
            Route("ready", "/ready", {"GET": self._get_ready}, open=True),
            Route("version", "/version", {"GET": operate.version}, open=True),
            Route("metrics", "/metrics", {"GET": self._get_metrics}),
        ]

    # --- ports.Application

    def open(
        self, request: Request, now: float, routes: Routes | None = None
    ) -> tuple[Exchange, Handler | None]:
        """routes: those that answer on the listener it came by; None: those of the server's own."""
        given = request.headers.get(b"x-request-id")
        if given is not None and SANE_REQUEST_ID.fullmatch(given):
            exchange = Exchange(request, given.decode(), now)
        else:
            exchange = Exchange(request, f"{self._id_prefix}{next(self._ids):08x}", now)
        if self._cors is not None:
            exchange.headers = self._cors.answer_headers(request)
        self._observer.opened(exchange)
        try:
            return exchange, self._admit(routes or self._here, exchange)
        except GhostError as error:
            exchange.error = error
            return exchange, None

    def malformed(self, error: GhostError, peer: str, now: float) -> Exchange:
        request = Request("-", "-", {})
        request.peer = peer
        exchange = Exchange(request, f"{self._id_prefix}{next(self._ids):08x}", now)
        exchange.error = error
        self._observer.opened(exchange)
        return exchange

    def render(self, exchange: Exchange) -> tuple[int, Pairs, bytes]:
        error = exchange.error
        assert error is not None
        door = DOORS[exchange.door]
        headers = (*door.WHOLE_HEADERS, *door.error_headers(error))
        return door.status(error), headers, door.render_error(error)

    def closed(self, exchange: Exchange) -> None:
        if exchange.error is not None:
            self._snapshot.mask.error(exchange.error)
        if self._audit is not None and exchange.route in self._audited:
            self._audit(exchange)
        accounts = self._generator.accounts
        if accounts is not None and accounts.active:
            accounts.closed(exchange)
        self._observer.finished(exchange)

    # --- opening

    def _admit(self, routes: Routes, exchange: Exchange) -> Handler:
        request = exchange.request
        method = request.method
        route = routes.find(request.path)
        if route is None:
            exchange.door = door_of(request)
            raise missing(method, request.path)
        exchange.route = route.name
        door = exchange.door = route.door or door_of(request)
        if door == "anthropic":  # the name that its SDKs look for
            exchange.fields += b"request-id: %b\r\n" % exchange.request_id.encode()
        if method == "OPTIONS":
            return self._options(route)
        handler = route.handlers.get(method) or routes.handler(route, method)
        if not route.open:
            if self.draining:
                raise Overloaded("this gateway is shutting down", retry_after=1)
            group = exchange.group = route.groups[method]
            identity = self._snapshot.authenticator.identify(request.headers, request.peer)
            if not isinstance(identity, Identity):
                return _awaiting(identity, handler)
            exchange.identity = identity
            if not identity.may(group):
                raise refused(identity, group)
        return handler

    # --- handlers

    def _calls(self, name: str, path: str, dialect: str, operation: str) -> Route:
        door = DOORS[dialect]

        def handle(exchange: Exchange, responder: Responder) -> Work:
            return self._generator.begin(self._snapshot, door, operation, exchange, responder)

        return Route(name, path, {"POST": handle}, door=dialect)

    def _counts(self, name: str, path: str, door: counting.CountingDoor) -> Route:
        def handle(exchange: Exchange, responder: Responder) -> Work:
            return counting.begin(self._generator, self._snapshot, door, exchange, responder)

        return Route(name, path, {"POST": handle}, door="anthropic" if door is anthropic else "openai")

    def _stored(self) -> list[Route]:
        responses = self._responses

        def create(exchange: Exchange, responder: Responder) -> Work:
            return responses.create(self._snapshot, exchange, responder)

        def count(exchange: Exchange, responder: Responder) -> Work:
            return responses.count(self._snapshot, exchange, responder)

        one = {"GET": responses.get, "DELETE": responses.delete, "POST": responses.post}
        return [
            Route("responses", "/v1/responses", {"POST": create}, door="responses"),
            Route("input_tokens", "/v1/responses/input_tokens", {"POST": count}, door="responses"),
            Route("response", "/v1/responses/", one, prefix=True, door="responses"),
        ]

    def _ollama(self) -> list[Route]:
        api = Ollama(self._generator)

        def generates(name: str) -> Route:
            def handle(exchange: Exchange, responder: Responder) -> Work | None:
                return api.generate(self._snapshot, f"ollama_{name}", exchange, responder)

            return Route(f"ollama_{name}", f"/api/{name}", {"POST": handle}, door="ollama")

        def about(name: str, method: str, answer: SnapshotHandler) -> Route:
            handlers = {method: self._with_snapshot(answer)}
            return Route(f"ollama_{name}", f"/api/{name}", handlers, door="ollama")

        return [
            *map(generates, ("chat", "generate", "embed", "embeddings")),
            about("tags", "GET", api.tags),
            about("ps", "GET", api.ps),
            about("show", "POST", api.show),
            about("pull", "POST", api.manage),
            about("copy", "POST", api.manage),
            about("delete", "DELETE", api.manage),
            Route("ollama_version", "/api/version", {"GET": ollama.version}, open=True, door="ollama"),
            Route("root", "/", {"GET": ollama.root}, open=True, door="ollama"),
        ]

    def _passages(self) -> list[Route]:
        def handle(exchange: Exchange, responder: Responder) -> Work:
            return passage.begin(self._generator, self._snapshot, exchange, responder)

        post = {"POST": handle}
        some = {"GET": handle, "POST": handle, "DELETE": handle}
        return [
            Route("audio", "/v1/audio/", post, prefix=True),
            Route("images", "/v1/images/", post, prefix=True),
            Route("moderations", "/v1/moderations", post),
            Route("rerank", "/v1/rerank", post),
            Route("files", "/v1/files", {"GET": handle, "POST": handle}),
            Route("files", "/v1/files/", some, prefix=True),
            Route("batches", "/v1/batches", {"GET": handle, "POST": handle}),
            Route("batches", "/v1/batches/", some, prefix=True),
        ]

    def _with_snapshot(self, answer: SnapshotHandler) -> Handler:
        def handle(exchange: Exchange, responder: Responder) -> Work | None:
            return answer(self._snapshot, exchange, responder)

        return handle

    def _options(self, route: Route) -> Handler:
        def handle(exchange: Exchange, responder: Responder) -> None:
            headers: Pairs = ((b"allow", route.allow.encode()),)
            if self._cors is not None:
                headers += self._cors.preflight_headers(exchange.request, route.allow)
            exchange.outcome = "ok"
            responder.respond(204, headers, b"")

        return handle

    def _get_ready(self, exchange: Exchange, responder: Responder) -> None:
        operate.ready(exchange, responder, self.ready() and not self.draining)

    def _get_metrics(self, exchange: Exchange, responder: Responder) -> None:
        kind, text = self._metrics(exchange.request.headers.get(b"accept", b""))
        exchange.outcome = "ok"
        responder.respond(200, ((b"content-type", kind.encode()),), text)


def _awaiting(pending: Pending, handler: Handler) -> Handler:
    def handle(exchange: Exchange, responder: Responder) -> Work:
        admission = Admission(pending, handler, exchange, responder)
        admission.start()
        return admission

    return handle
