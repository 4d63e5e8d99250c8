"""Ollama's own API: generations, the models as its clients see them, the management of an Ollama behind."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ghostllm.api.calls import check_depth
from ghostllm.api.ollama import door, listing
from ghostllm.errors import ModelNotFound, Overloaded, UpstreamError
from ghostllm.gateway.generate import Generator, body_of, read_call
from ghostllm.gateway.generation import Generation
from ghostllm.gateway.passage import PassageGeneration
from ghostllm.gateway.permission import require_model
from ghostllm.gateway.snapshot import Snapshot
from ghostllm.message import Exchange, Passage, Request
from ghostllm.net.fetch import fetch_by
from ghostllm.ports import ModelInfo, ModelServer, Responder, Work
from ghostllm.routing.catalog import Model, Target
from ghostllm.routing.upstream import Upstream

LOOK_SECONDS = 5.0  # to ask a backend about a model


@dataclass(slots=True, frozen=True)
class Ollama:
    """Handles the routes of the API."""

    generator: Generator

    def generate(
        self, snapshot: Snapshot, operation: str, exchange: Exchange, responder: Responder
    ) -> Work | None:
        """Raises GhostError for the client."""
        call = exchange.call = read_call(snapshot, door, operation, exchange.request)
        received = exchange.received
        call.elapsed = lambda: time.monotonic() - received
        if door.asks_nothing(call):
            model = _model(snapshot, exchange, call.model)
            if not _is_ollama(snapshot.upstreams[_target(model).backend]):
                answer = door.load_answer(call, int(time.time()))
                assert answer is not None
                _answer(exchange, responder, answer)
                return None
        return self.generator.generate(snapshot, door, exchange, responder)

    # --- the models

    def tags(self, snapshot: Snapshot, exchange: Exchange, responder: Responder) -> None:
        visible = snapshot.catalog().visible(exchange.identity)
        _answer(exchange, responder, listing.render_tags((model.name, model.info) for model in visible))

    def show(self, snapshot: Snapshot, exchange: Exchange, responder: Responder) -> Work | None:
        body = _json(snapshot, exchange.request)
        name, fields = door.read_model(body)
        check_depth(body, fields, snapshot.json_depth)
        model = _model(snapshot, exchange, name)
        target = _target(model)
        upstream = snapshot.upstreams[target.backend]
        if not _is_ollama(upstream):
            _answer(exchange, responder, listing.render_show(name, model.info))
            return None
        verbose = fields.get("verbose") is True
        return responder.run(_show(upstream, target.model, verbose, exchange, responder))

    def ps(self, snapshot: Snapshot, exchange: Exchange, responder: Responder) -> Work:
        return responder.run(_ps(snapshot, exchange, responder))

    # --- for keys that may manage models

    def manage(self, snapshot: Snapshot, exchange: Exchange, responder: Responder) -> Generation:
        """`pull`, `delete` and `copy` go to an Ollama behind. Raises GhostError for the client."""
        request = exchange.request
        body = _json(snapshot, request)
        if request.path == "/api/copy":
            name, destination, fields = door.read_copy(body)
            require_model(snapshot, exchange, destination)
        else:
            name, fields = door.read_model(body)
        check_depth(body, fields, snapshot.json_depth)
        require_model(snapshot, exchange, name)
        exchange.call = Passage(
            "ollama", "passage", name, body, fields, method=request.method, path=request.path,
            content_type=b"application/json",
        )  # fmt: skip
        managing = Managing(self.generator, snapshot, door, exchange, responder)
        managing.start()
        return managing


class Managing(PassageGeneration):
    """A request about a model that changes what its server has."""

    __slots__ = ()

    def start(self) -> None:
        """Of a model that is there, at its own server; a new one comes to the first that can have it."""
        model = self._snapshot.catalog().find(self._call.model)
        if model is None:
            name = self._call.model
            every = tuple(Target(upstream, name) for upstream in self._snapshot.upstreams)
            model = Model(name, every, "failover")
        self._plan(model)

    def _succeed(self, now: float) -> None:
        super()._succeed(now)
        self._responder.run(self._refresh())

    async def _refresh(self) -> None:
        await self._snapshot.refresh()


async def _show(
    upstream: Upstream, model: str, verbose: bool, exchange: Exchange, responder: Responder
) -> None:
    assert isinstance(upstream.translator, ModelServer)
    request = upstream.translator.show_request(model, verbose=verbose)
    found = await fetch_by(await upstream.ready(), request, seconds=LOOK_SECONDS)
    if found.status != 200:
        raise upstream.translator.failure(found.status, found.headers, found.body)
    _answer(exchange, responder, found.body)


async def _ps(snapshot: Snapshot, exchange: Exchange, responder: Responder) -> None:
    """An Ollama says what it has in memory; of other servers every model is."""
    loaded: dict[str, Mapping[str, Mapping[str, Any]]] = {}
    for name, upstream in list(snapshot.upstreams.items()):
        if isinstance(upstream.translator, ModelServer) and not upstream.asleep:
            try:
                found = await fetch_by(
                    upstream.client, upstream.translator.ps_request(), seconds=LOOK_SECONDS
                )
                loaded[name] = listing.read_entries(found.body, f"backend {name!r}")
            except UpstreamError:
                loaded[name] = {}  # it has nothing in memory that could be used now
    entries: list[tuple[str, ModelInfo | None, Mapping[str, Any] | None]] = []
    for model in snapshot.catalog().visible(exchange.identity):
        if not model.targets:
            continue
        target = model.targets[0]
        if target.backend not in loaded:
            entries.append((model.name, model.info, None))
        elif (own := loaded[target.backend].get(target.model)) is not None:
            entries.append((model.name, model.info, own))
    _answer(exchange, responder, listing.render_ps(entries))


def version(exchange: Exchange, responder: Responder) -> None:
    _answer(exchange, responder, listing.render_version())


def root(exchange: Exchange, responder: Responder) -> None:
    exchange.outcome = "ok"
    responder.respond(200, listing.ROOT_HEADERS, listing.ROOT)


def _is_ollama(upstream: Upstream) -> bool:
    return isinstance(upstream.translator, ModelServer)


def _model(snapshot: Snapshot, exchange: Exchange, name: str) -> Model:
    model = snapshot.catalog().find(name)
    if model is None or not model.open_to(exchange.identity, exchange.group):
        raise ModelNotFound(f"model {name!r} not found", param="model")
    return model


def _target(model: Model) -> Target:
    """The first, which speaks for the model. Raises Overloaded while there is none."""
    if not model.targets:
        raise Overloaded(f"no backend of model {model.name!r} is there now", retry_after=5)
    return model.targets[0]


def _json(snapshot: Snapshot, request: Request) -> bytes | bytearray:
    return body_of(request, snapshot.body_bytes)


def _answer(exchange: Exchange, responder: Responder, body: bytes) -> None:
    exchange.outcome = "ok"
    responder.respond(200, door.WHOLE_HEADERS, body)
