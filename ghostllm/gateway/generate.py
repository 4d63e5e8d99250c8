"""Calls to models, of every door: from the request's body to the generation that answers it."""

from __future__ import annotations

import random

from ghostllm.errors import BodyTooLarge, Overloaded, UnsupportedMediaType
from ghostllm.gateway.generation import Generation
from ghostllm.gateway.snapshot import Snapshot
from ghostllm.message import Body, Exchange, Request
from ghostllm.ports import Door, Responder
from ghostllm.routing.balance import Rotation, order
from ghostllm.routing.catalog import Model, Target
from ghostllm.wire.encoding import decode_body

BUSY_RETRY = 1.0  # seconds a client is asked to wait when every target is at its max_inflight


class Generator:
    """Begins generations. rotation and chance are the balancer's, kept over reloads."""

    def __init__(self) -> None:
        self.chance = random.Random()
        self._rotation = Rotation()

    def begin(
        self, snapshot: Snapshot, door: Door, operation: str, exchange: Exchange, responder: Responder
    ) -> Generation:
        """Raises GhostError for the client."""
        body = body_of(exchange.request, snapshot.body_bytes)
        exchange.call = door.read_call(operation, body)
        generation = Generation(self, snapshot, door, exchange, responder)
        generation.start()
        return generation

    def targets(self, snapshot: Snapshot, model: Model) -> list[Target]:
        """Those that have room, in the order of choice. Raises Overloaded if none has."""
        upstreams = snapshot.upstreams
        if len(model.targets) == 1 and not upstreams[model.targets[0].backend].full:
            return list(model.targets)
        ordered = order(
            model.balance,
            model.name,
            model.targets,
            load=lambda backend: upstreams[backend].in_flight,
            rotation=self._rotation,
            chance=self.chance,
        )
        free = [target for target in ordered if not upstreams[target.backend].full]
        if not free:
            raise Overloaded(f"every backend of model {model.name!r} is at its limit", retry_after=BUSY_RETRY)
        return free


def body_of(request: Request, limit: int) -> Body:
    """The JSON body."""
    headers = request.headers
    kind = headers.get(b"content-type", b"application/json")
    if kind != b"application/json":
        kind = kind.partition(b";")[0].strip().lower()
        if kind != b"application/json" and not kind.endswith(b"+json"):
            raise UnsupportedMediaType(
                f"content-type must be application/json, not {kind.decode('latin-1')!r}"
            )
    return decoded_body(request, limit)


def decoded_body(request: Request, limit: int) -> Body:
    """The body, its Content-Encoding undone."""
    encoding = request.headers.get(b"content-encoding")
    if encoding is None:
        return request.body
    try:
        return decode_body(request.body, encoding, limit)
    except BodyTooLarge as error:
        raise BodyTooLarge(f"decompressed, {error.message}") from None
