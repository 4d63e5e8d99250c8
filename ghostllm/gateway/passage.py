"""Requests that are passed on as they are: audio, images, moderations, rerank, files, batches.

The gateway finds the backend by the model that the body names (a member of its JSON, a field of its form), or
where a path knows no model the first backend that has the path; files and batches live on one server.
"""

from __future__ import annotations

import re
import time
from dataclasses import replace

from ghostllm import jsonx
from ghostllm.api import multipart
from ghostllm.api.calls import check_depth
from ghostllm.api.doors import DOORS
from ghostllm.errors import GhostError, NotFound, NotImplementedHere, RequestError, UnsupportedMediaType
from ghostllm.gateway.delivery import Mode
from ghostllm.gateway.generate import Generator, decoded_body
from ghostllm.gateway.generation import Generation
from ghostllm.gateway.snapshot import Snapshot
from ghostllm.message import Body, Exchange, Pairs, Passage, Request
from ghostllm.ports import Responder, Work
from ghostllm.routing.catalog import Model, Target
from ghostllm.wire.h1 import ResponseHead

PASSED_BACK = (b"content-type", b"content-disposition")
"""Fields of the backend's answer that its body cannot be read without."""

_SOUND_PATH = re.compile(r"/v1(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9_.:@-]+)+")


def begin(generator: Generator, snapshot: Snapshot, exchange: Exchange, responder: Responder) -> Work:
    """Raises GhostError for the client."""
    request = exchange.request
    if _SOUND_PATH.fullmatch(request.path) is None:  # a backend must not be led elsewhere by `..` or `%2F`
        raise NotFound(f"no such path: {request.path[:200]}")
    body = decoded_body(request, snapshot.body_bytes)
    call = exchange.call = _read(request, body)
    check_depth(body, call.fields, snapshot.json_depth)
    return generator.once_booked(
        snapshot, exchange, responder, lambda: _begin(generator, snapshot, exchange, responder)
    )


def _begin(generator: Generator, snapshot: Snapshot, exchange: Exchange, responder: Responder) -> Work:
    generation = PassageGeneration(generator, snapshot, DOORS["openai"], exchange, responder)
    generation.start()
    return generation


def _read(request: Request, body: Body) -> Passage:
    path = request.path.removeprefix("/v1") + (f"?{request.query}" if request.query else "")
    call = Passage("openai", "passage", "", body, {}, method=request.method, path=path)
    if not body:
        return call
    call.content_type = request.headers.get(b"content-type", b"")
    kind = call.content_type.partition(b";")[0].strip().lower()
    if kind == b"application/json" or kind.endswith(b"+json"):
        call.fields = _object(body)
        model = call.fields.get("model")
        if model is not None and not isinstance(model, str):
            raise RequestError("model must be a string", param="model")
        call.model = model or ""
    elif kind == b"multipart/form-data":
        call.span = multipart.find_field(body, multipart.boundary_of(call.content_type), "model")
        if call.span is not None:
            call.model = _text(body[slice(*call.span)])
    else:
        raise UnsupportedMediaType("content-type must be application/json or multipart/form-data")
    return call


def _object(body: Body) -> dict[str, object]:
    try:
        fields = jsonx.loads(body)
    except jsonx.DecodeError as error:
        raise RequestError(f"the body is not valid JSON: {error}") from None
    if not isinstance(fields, dict):
        raise RequestError("the body must be a JSON object")
    return fields


def _text(value: Body) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise RequestError("model is not UTF-8", param="model") from None


class PassageGeneration(Generation):
    """The generation of a Passage: what comes back goes through with its own status and type."""

    def start(self) -> None:
        if self._call.model:
            super().start()
        else:
            self._plan(Model("", tuple(Target(name, "") for name in self._snapshot.upstreams), "failover"))

    def _plan(self, model: Model) -> None:
        call, upstreams = self._call, self._snapshot.upstreams
        assert isinstance(call, Passage)
        targets = [
            target
            for target in model.targets
            if target.backend in upstreams and upstreams[target.backend].translator.passes(call.path)
        ]
        if not targets:
            where = f"no backend of model {model.name!r}" if model.name else "no backend"
            raise NotImplementedHere(f"{where} serves /v1{call.path.partition('?')[0]}")
        if len(targets) < len(model.targets):
            model = replace(model, targets=tuple(targets))
        super()._plan(model)

    def whole(self, head: ResponseHead, body: bytes) -> bool:
        return False

    def head(self, head: ResponseHead) -> None:
        self._attempt.status = head.status
        self._head = head
        if not 200 <= head.status < 300:
            self._mode = Mode.ERROR
            return
        self._mode = Mode.HOLD
        self._passed_back: Pairs = tuple(
            (name, head.headers[name]) for name in PASSED_BACK if name in head.headers
        )
        if self._upstream_call is not None:
            self._upstream_call.producing()

    def end(self) -> None:
        if self._mode is Mode.HOLD:  # nothing came: an answer without a body
            self._upstream_call = None
            self._succeed(time.monotonic())
            self._responder.respond(self._head.status, self._passed_back, b"")
        else:
            super().end()

    def _beginning(self) -> tuple[int, Pairs]:
        return self._head.status, self._passed_back

    def _told_inside(self, error: GhostError) -> None:
        self._responder.fail(error)  # only breaking it off tells the client that it is not whole
