"""Calls to models: chat, completions, embeddings. From the request's body to the attempt that answers it."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping
from typing import Any

from ghostllm.errors import (
    BodyTooLarge,
    Forbidden,
    GhostError,
    ModelNotFound,
    Overloaded,
    UnsupportedMediaType,
    UnsupportedParameter,
    UnsupportedValue,
    UpstreamError,
)
from ghostllm.gateway.relay import Delivery, Relay
from ghostllm.gateway.snapshot import Snapshot
from ghostllm.message import Attempt, Body, Exchange, Pairs, Request
from ghostllm.ports import Door, Responder
from ghostllm.routing.balance import Rotation, order
from ghostllm.routing.catalog import Model, Target, allowed
from ghostllm.routing.failover import Failover
from ghostllm.wire.encoding import decode_body
from ghostllm.wire.h1 import strip_hop_by_hop

FORWARDED = frozenset((
    b"traceparent", b"tracestate", b"idempotency-key", b"x-client-request-id", b"openai-beta",
    b"anthropic-beta", b"anthropic-version",
))  # fmt: skip
"""The client's header fields that a backend gets to see: no credentials, no cookies, nothing hop-by-hop."""

BUSY_RETRY = 1.0  # seconds a client is asked to wait when every target is at its max_inflight


class Generator:
    """Handles the calls of all doors. rotation and chance are the balancer's, kept over reloads."""

    def __init__(self) -> None:
        self._rotation = Rotation()
        self._chance = random.Random()

    async def handle(
        self, snapshot: Snapshot, door: Door, operation: str, exchange: Exchange, responder: Responder
    ) -> None:
        """One call, start to end. Raises GhostError when the client has seen nothing yet and must be told."""
        limits = snapshot.config.server.limits
        body = _body_of(exchange.request, limits.body_bytes)
        call = exchange.call = door.read_call(operation, body)
        model = snapshot.catalog().find(call.model) or await self._look_again(snapshot, exchange, call.model)
        if not allowed(exchange.identity, model.name):
            raise _forbidden(exchange, call.model)
        failover = Failover(self._targets(snapshot, model), snapshot.config.routing, self._chance)
        extra = model.parameters(call.fields)
        to = Delivery(exchange, responder, door)
        try:
            while True:
                error = await self._attempt(snapshot, to, model, failover.current, extra)
                if error is None:
                    return
                step = failover.after(error)
                if step is None:
                    raise failover.verdict()
                if step[1]:
                    await asyncio.sleep(step[1])
        except asyncio.CancelledError:
            if exchange.outcome == "open":  # not when the client left with its answer in hand
                exchange.usage.partial = True
            raise

    async def _look_again(self, snapshot: Snapshot, exchange: Exchange, name: str) -> Model:
        """A model that nobody knows may be new: asks the backends once more. Raises ModelNotFound."""
        await snapshot.refresh()
        model = snapshot.catalog().find(name)
        if model is not None:
            return model
        if not allowed(exchange.identity, name):
            raise _forbidden(exchange, name)
        raise ModelNotFound(
            f"no backend serves the model {name!r}; GET /v1/models lists those served", param="model"
        )

    def _targets(self, snapshot: Snapshot, model: Model) -> list[Target]:
        upstreams = snapshot.upstreams
        if len(model.targets) == 1 and not upstreams[model.targets[0].backend].full:
            return list(model.targets)
        ordered = order(
            model.balance,
            model.name,
            model.targets,
            load=lambda backend: upstreams[backend].in_flight,
            rotation=self._rotation,
            chance=self._chance,
        )
        free = [target for target in ordered if not upstreams[target.backend].full]
        if not free:
            raise Overloaded(f"every backend of model {model.name!r} is at its limit", retry_after=BUSY_RETRY)
        return free

    async def _attempt(
        self, snapshot: Snapshot, to: Delivery, model: Model, target: Target, extra: Mapping[str, Any]
    ) -> GhostError | None:
        """One try. None: the client has its answer. An error: the client has seen nothing."""
        upstream = snapshot.upstreams[target.backend]
        exchange, call = to.exchange, to.exchange.call
        assert call is not None
        attempt = Attempt(target.backend, target.model, time.monotonic())
        exchange.attempts.append(attempt)
        upstream.in_flight += 1
        relay: Relay | None = None
        try:
            request, answer = upstream.translator.prepare(call, target.model, extra)
            client = await upstream.ready() if upstream.asleep else upstream.client
            limits = snapshot.limits(upstream, model, stream=call.stream)
            relay = Relay(
                to, upstream.translator, answer, attempt, snapshot.config.server.limits.answer_bytes
            )
            relay.call = client.start(request, _forwarded(exchange), relay, limits)
            exchange.backend = target.backend
            return await relay.done
        except (UpstreamError, UnsupportedParameter, UnsupportedValue) as error:
            attempt.outcome, attempt.error = error.code or "error", error.message
            return error
        except asyncio.CancelledError:
            if attempt.outcome == "open":
                attempt.outcome = "cancelled"
            raise
        finally:
            upstream.in_flight -= 1
            if relay is not None and relay.call is not None:
                relay.call.cancel()
                relay.call = None  # the call knows its sink: without this, a ring that keeps the body alive


def _body_of(request: Request, limit: int) -> Body:
    """The JSON body, its Content-Encoding undone."""
    kind = request.headers.get(b"content-type", b"application/json").partition(b";")[0].strip().lower()
    if kind != b"application/json" and not kind.endswith(b"+json"):
        raise UnsupportedMediaType(f"content-type must be application/json, not {kind.decode('latin-1')!r}")
    encoding = request.headers.get(b"content-encoding")
    if encoding is None:
        return request.body
    try:
        return decode_body(request.body, encoding, limit)
    except BodyTooLarge as error:
        raise BodyTooLarge(f"decompressed, {error.message}") from None


def _forbidden(exchange: Exchange, model: str) -> Forbidden:
    return Forbidden(f"key {exchange.identity.key!r} may not use model {model!r}", param="model")


def _forwarded(exchange: Exchange) -> Pairs:
    headers = exchange.request.headers
    request_id = exchange.headers[:1]
    if FORWARDED.isdisjoint(headers):
        return request_id
    passed = strip_hop_by_hop(headers)
    return request_id + tuple((name, passed[name]) for name in sorted(FORWARDED & passed.keys()))
