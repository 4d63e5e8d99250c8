"""One call to a model, from its plan to its last byte: the attempts, and the one streaming path.

A generation is the sink of its upstream call, driven by the connections' callbacks; only what has to wait for
something else (an unknown model, a server to be started) runs in a task. The life of an attempt:

    HOLD -> FLOW        a stream is held back until its first content is there (the commit). Until then the
                        attempt can fail without the client noticing, and the next one is made; from then on
                        bytes go through as they come, and a failure is told inside the stream
    WHOLE               an answer that is delivered when it is complete and sound
    ERROR               the body of an error, read to learn what it says
"""

from __future__ import annotations

import asyncio
import enum
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ghostllm.errors import Forbidden, GhostError, ModelNotFound, UnsupportedParameter, UpstreamProtocolError
from ghostllm.gateway.snapshot import Snapshot
from ghostllm.message import NO_USAGE, Attempt, Exchange, Pairs, UpstreamRequest, Usage
from ghostllm.net.client import Client, UpstreamCall
from ghostllm.ports import Door, Responder, Work
from ghostllm.routing.catalog import Model, Target, allowed
from ghostllm.routing.failover import Failover
from ghostllm.routing.upstream import Upstream
from ghostllm.wire.encoding import decode_body
from ghostllm.wire.h1 import ResponseHead, field_block, strip_hop_by_hop

if TYPE_CHECKING:
    from ghostllm.gateway.generate import Generator

ERROR_BODY_LIMIT = 64 * 1024

FORWARDED = frozenset((
    b"traceparent", b"tracestate", b"idempotency-key", b"x-client-request-id", b"openai-beta",
    b"anthropic-beta", b"anthropic-version",
))  # fmt: skip
"""The client's header fields that a backend gets to see: no credentials, no cookies, nothing hop-by-hop."""


class Mode(enum.Enum):
    HOLD = "a stream before its commit"
    FLOW = "a stream after its commit"
    WHOLE = "an answer that is delivered whole"
    ERROR = "the body of an error"


class Generation:
    """Implements ports.Work and net.client.Sink. The exchange has its call."""

    __slots__ = (
        "_answer", "_attempt", "_call", "_door", "_exchange", "_extra", "_failover", "_generator", "_head",
        "_held", "_mode", "_model", "_responder", "_size", "_snapshot", "_stream", "_targets", "_upstream",
        "_upstream_call", "_waiting",
    )  # fmt: skip

    def __init__(
        self, generator: Generator, snapshot: Snapshot, door: Door, exchange: Exchange, responder: Responder
    ) -> None:
        call = exchange.call
        assert call is not None
        self._generator = generator
        self._snapshot = snapshot
        self._door = door
        self._exchange = exchange
        self._responder = responder
        self._call = call
        self._stream = call.stream
        self._failover: Failover | None = None  # made when the first attempt has failed
        self._upstream: Upstream | None = None  # of the attempt under way
        self._upstream_call: UpstreamCall | None = None
        self._waiting: Work | None = None

    def __repr__(self) -> str:
        return f"<Generation of {self._exchange!r}>"

    # --- the plan

    def start(self) -> None:
        """Makes the first attempt, unless something has to be waited for. Raises GhostError for the
        client.
        """
        model = self._snapshot.catalog().find(self._call.model)
        if model is None:
            self._waiting = self._responder.run(self._look_again(self._call.model))
        else:
            self._plan(model)

    def cancel(self) -> None:
        """The client has left: so does everything that was begun for it."""
        exchange = self._exchange
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        if exchange.attempts and exchange.attempts[-1].outcome == "open":
            exchange.attempts[-1].outcome = "cancelled"
        if exchange.usage is NO_USAGE:
            exchange.usage = Usage()
        exchange.usage.partial = True
        self._release()

    def _plan(self, model: Model) -> None:
        identity = self._exchange.identity
        if identity.models and not allowed(identity, model.name):
            raise self._forbidden()
        self._model = model
        parameters = self._call.parameters = model.parameters
        self._extra: Mapping[str, Any] = parameters.over(self._call.fields) if parameters else {}
        self._targets = self._generator.targets(self._snapshot, model)
        self._proceed(self._targets[0])

    async def _look_again(self, name: str) -> None:
        """A model that nobody knows may be new: asks the backends once more."""
        await self._snapshot.refresh()
        model = self._snapshot.catalog().find(name)
        if model is not None:
            self._plan(model)
        elif not allowed(self._exchange.identity, name):
            raise self._forbidden()
        else:
            raise ModelNotFound(
                f"no backend serves the model {name!r}; GET /v1/models lists those served", param="model"
            )

    def _forbidden(self) -> Forbidden:
        key, model = self._exchange.identity.key, self._call.model
        return Forbidden(f"key {key!r} may not use model {model!r}", param="model")

    # --- attempts

    def _proceed(self, target: Target) -> None:
        """Tries `target`, and while attempts fail at once, the next ones."""
        while (error := self._try(target)) is not None:
            step = self._step(error)
            if step is None:
                return
            target = step

    def _try(self, target: Target) -> GhostError | None:
        """None: the attempt is under way."""
        self._waiting = None
        upstream = self._snapshot.upstreams[target.backend]
        exchange = self._exchange
        attempt = self._attempt = Attempt(target.backend, target.model, time.monotonic())
        exchange.attempts.append(attempt)
        try:
            request, self._answer = upstream.translator.prepare(self._call, target.model, self._extra)
        except GhostError as error:
            return error
        exchange.usage = self._answer.usage
        upstream.in_flight += 1
        self._upstream = upstream
        self._mode = Mode.HOLD if self._stream else Mode.WHOLE
        self._held: list[bytes] = []
        self._size = 0
        if upstream.asleep:
            self._waiting = self._responder.run(self._wake(upstream, request))
        else:
            self._send(upstream.client, request)
        return None

    async def _wake(self, upstream: Upstream, request: UpstreamRequest) -> None:
        try:
            client = await upstream.ready()
        except GhostError as error:
            self._fail_over(error)
        else:
            self._waiting = None
            self._send(client, request)

    def _send(self, client: Client, request: UpstreamRequest) -> None:
        exchange, upstream = self._exchange, self._upstream
        assert upstream is not None
        limits = self._snapshot.limits(upstream, self._model, stream=self._stream)
        exchange.backend = upstream.name
        self._upstream_call = client.start(request, _forwarded(exchange, request), self, limits)

    def _fail_over(self, error: GhostError) -> None:
        """The attempt under way has failed, and the client has seen nothing of it."""
        target = self._step(error)
        if target is not None:
            self._proceed(target)

    def _step(self, error: GhostError) -> Target | None:
        """The target to try now. None: later, or it is over and the client has been told."""
        self._attempt.outcome, self._attempt.error = error.code or "error", error.message
        self._release()
        error.forget()
        if self._failover is None:
            self._failover = Failover(self._targets, self._snapshot.config.routing, self._generator.chance)
        step = self._failover.after(error)
        if step is None:
            self._give_up(self._failover.verdict())
            return None
        target, pause = step
        if pause:
            self._waiting = self._responder.run(self._pause(pause, target))
            return None
        return target

    def _give_up(self, error: GhostError) -> None:
        if isinstance(error, UnsupportedParameter) and error.param == "n" and self._call.fields.get("n"):
            self._fan_out()
        else:
            self._responder.fail(error)

    def _fan_out(self) -> None:
        """No target gives several answers to a request: asks for each by itself."""
        from ghostllm.gateway.fanout import Fanout  # here, as it makes generations

        self._exchange.attempts.clear()
        fanout = Fanout(self._generator, self._snapshot, self._door, self._exchange, self._responder)
        self._waiting = fanout
        fanout.start(self._call.fields["n"])

    async def _pause(self, seconds: float, target: Target) -> None:
        await asyncio.sleep(seconds)
        self._proceed(target)

    def _release(self) -> None:
        """The attempt is over: its place is free, and so is its connection, unless it has been given back.

        The call knows its sink: were it kept here, the two would keep the request's body alive.
        """
        if self._upstream is not None:
            self._upstream.in_flight -= 1
            self._upstream = None
        if self._upstream_call is not None:
            self._upstream_call.cancel()
            self._upstream_call = None

    # --- the upstream call's sink

    def head(self, head: ResponseHead) -> None:
        self._attempt.status = head.status
        self._head = head
        if not 200 <= head.status < 300:
            self._mode = Mode.ERROR
            return
        kind = head.headers.get(b"content-type", b"").lower()
        if b"html" in kind or (self._stream and kind.startswith(b"application/json")):
            raise UpstreamProtocolError(
                f"backend {self._attempt.backend!r} answered {kind.decode('latin-1')!r} "
                f"where {'an event stream' if self._stream else 'JSON'} was expected"
            )
        if self._stream and head.headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise UpstreamProtocolError(f"backend {self._attempt.backend!r} compressed its stream unasked")
        if not self._stream and self._upstream_call is not None:
            self._upstream_call.producing()

    def data(self, data: bytes) -> None:
        if self._mode is Mode.FLOW:
            answer = self._answer
            out = answer.feed(data)
            if out:
                self._responder.write(out)
            if answer.fault is not None:
                raise answer.fault
        elif self._mode is Mode.HOLD:
            out = self._answer.feed(data)
            if out:
                self._keep(out, self._snapshot.answer_bytes)
            if self._answer.committed:
                self._commit()
        elif self._mode is Mode.WHOLE:
            self._keep(data, self._snapshot.answer_bytes)
        else:
            self._keep(data, ERROR_BODY_LIMIT)

    def end(self) -> None:
        self._upstream_call = None  # its connection takes it back, as soon as this returns
        if self._mode is Mode.WHOLE:
            self._deliver(b"".join(self._held))
        elif self._mode is Mode.ERROR:
            head, body = self._head, b"".join(self._held)
            assert self._upstream is not None
            self._fail_over(self._upstream.translator.failure(head.status, head.headers, body))
        else:
            last = self._answer.finish()
            if self._mode is Mode.HOLD:  # complete and empty: that is what the model had to say
                self._commit()
            if last:
                self._responder.write(last)
            self._succeed()
            self._responder.end()

    def fail(self, error: GhostError) -> None:
        if self._mode is not Mode.FLOW:
            self._fail_over(error)
            return
        self._attempt.outcome, self._attempt.error = error.code or "error", error.message
        self._exchange.error = error
        self._exchange.outcome = "broken"
        self._exchange.usage.partial = True
        self._release()
        self._told_inside(error)

    # --- steps of an answer

    def _keep(self, data: bytes, limit: int) -> None:
        self._size += len(data)
        if self._size <= limit:
            self._held.append(data)
        elif self._mode is not Mode.ERROR:  # of an error, the beginning will do
            raise UpstreamProtocolError(f"backend {self._attempt.backend!r} answered more than {limit} bytes")

    def _commit(self) -> None:
        self._mode = Mode.FLOW
        self._exchange.committed = time.monotonic()
        self._responder.begin(*self._beginning())
        if self._upstream_call is not None:
            self._responder.attach(self._upstream_call)
            self._upstream_call.producing()
        held = b"".join(self._held)
        self._held = []
        if held:
            self._responder.write(held)

    def _beginning(self) -> tuple[int, Pairs]:
        return 200, self._door.STREAM_HEADERS

    def _told_inside(self, error: GhostError) -> None:
        self._responder.write(self._answer.broken(error))
        self._responder.end(close=True)

    def _deliver(self, body: bytes) -> None:
        encoding = self._head.headers.get(b"content-encoding")
        if encoding is not None:
            limit = self._snapshot.answer_bytes
            body = _decoded(body, encoding, limit, self._attempt.backend)
        out = self._answer.whole(body)
        self._exchange.committed = time.monotonic()
        self._succeed()
        self._responder.respond(200, self._door.WHOLE_HEADERS, out)

    def _succeed(self) -> None:
        self._exchange.outcome = self._attempt.outcome = "ok"
        self._release()


def _decoded(body: bytes, encoding: bytes, limit: int, backend: str) -> bytes:
    """Undoes a Content-Encoding that was not asked for, as some servers send whatever they are told."""
    try:
        return bytes(decode_body(body, encoding, limit))
    except GhostError as error:
        raise UpstreamProtocolError(
            f"backend {backend!r}: its answer's {encoding!r} cannot be undone: {error.message}"
        ) from None


def _forwarded(exchange: Exchange, request: UpstreamRequest) -> bytes:
    """The client's fields for the backend; they stand in for those of the same name that `request` has."""
    headers = exchange.request.headers
    if FORWARDED.isdisjoint(headers):
        return exchange.id_field
    passed = strip_hop_by_hop(headers)
    request.headers = tuple(
        pair for pair in request.headers if pair[0] not in FORWARDED or pair[0] not in passed
    )
    return exchange.id_field + field_block(
        tuple((name, passed[name]) for name in sorted(FORWARDED) if name in passed)
    )
