"""The sink of an upstream call: what becomes of the bytes of one attempt's answer. The life of an attempt:

HOLD -> FLOW        a stream is held back until its first content is there (the commit). Until then the
                    attempt can fail without the client noticing; from then on bytes go through as they
                    come, and a failure is one of a stream that has begun
WHOLE               an answer that is delivered when it is complete and sound
ERROR               the body of an error, read to learn what it says
"""

from __future__ import annotations

import abc
import enum
import time
from typing import TYPE_CHECKING

from ghostllm.errors import GhostError, UpstreamProtocolError
from ghostllm.gateway.hints import hints
from ghostllm.gateway.snapshot import Snapshot
from ghostllm.message import Attempt, Call, Exchange, Pairs
from ghostllm.net.client import UpstreamCall
from ghostllm.ports import Answer, Door, Responder
from ghostllm.routing.lease import Lease
from ghostllm.wire.encoding import decode_body
from ghostllm.wire.h1 import ResponseHead

if TYPE_CHECKING:
    from ghostllm.gateway.generate import Generator

ERROR_BODY_LIMIT = 64 * 1024


class Mode(enum.Enum):
    HOLD = "a stream before its commit"
    FLOW = "a stream after its commit"
    WHOLE = "an answer that is delivered whole"
    ERROR = "the body of an error"


FLOW = Mode.FLOW  # a name that costs a token less to look up


class Delivery(abc.ABC):
    """Implements net.client.Sink for the attempt under way. shown: the head of a stream has gone to the
    client, be it only for a sign of life.

    What most requests never come to need stands in the class, here and in those who derive: setting it for
    each would cost as much as routing it.
    """

    _answer: Answer
    _attempt: Attempt
    _head: ResponseHead
    _held: list[bytes]
    _mode = Mode.WHOLE
    _shown = False
    _size = 0
    _lease: Lease | None = None  # of the attempt under way
    _upstream_call: UpstreamCall | None = None

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
        self._call: Call = call
        self._stream = call.stream

    # --- for those who derive

    @abc.abstractmethod
    def _fail_over(self, error: GhostError) -> None:
        """The attempt has failed, and the client has seen nothing of it."""

    @abc.abstractmethod
    def _broke(self, error: GhostError) -> None:
        """The attempt has failed after the client had been given a part of its answer."""

    @abc.abstractmethod
    def _succeed(self, now: float) -> None:
        """The answer is whole. Called before its last bytes are handed over."""

    # --- the upstream call's sink

    def whole(self, head: ResponseHead, body: bytes) -> bool:
        """Takes what is as usual as can be."""
        headers = head.headers
        if (
            self._stream
            or head.status != 200
            or headers.get(b"content-type") != b"application/json"
            or b"content-encoding" in headers
            or len(body) > self._snapshot.answer_bytes
        ):
            return False
        self._attempt.status = 200
        self._upstream_call = None  # its connection takes it back, as soon as this returns
        self._head = head
        self._deliver(body)
        return True

    def head(self, head: ResponseHead) -> None:
        self._attempt.status = head.status
        self._head = head
        if not 200 <= head.status < 300:
            self._mode = Mode.ERROR
            return
        if not self._stream:
            if head.headers.get(b"content-type") != b"application/json":
                self._check_kind(head)
            if self._upstream_call is not None:
                self._upstream_call.producing()
            return
        self._check_kind(head)
        if head.headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise UpstreamProtocolError(f"backend {self._attempt.backend!r} compressed its stream unasked")

    def _check_kind(self, head: ResponseHead) -> None:
        kind = head.headers.get(b"content-type", b"").lower()
        if b"html" in kind or (self._stream and kind.startswith(b"application/json")):
            raise UpstreamProtocolError(
                f"backend {self._attempt.backend!r} answered {kind.decode('latin-1')!r} "
                f"where {'an event stream' if self._stream else 'JSON'} was expected"
            )

    def data(self, data: bytes) -> None:
        if self._mode is FLOW:
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
            assert self._lease is not None
            translator = self._lease.upstream.translator
            error = translator.failure(head.status, head.headers, body)
            self._snapshot.mask.error(error)
            self._fail_over(error)
        else:
            last = self._answer.finish()
            if self._mode is Mode.HOLD:  # complete and empty: that is what the model had to say
                self._commit()
            if last:
                self._responder.write(last)
            self._succeed(time.monotonic())
            self._responder.end()

    def fail(self, error: GhostError) -> None:
        self._snapshot.mask.error(error)  # some backends repeat the key that they refuse
        if self._mode is Mode.FLOW:
            self._broke(error)
        else:
            self._fail_over(error)

    # --- steps of an answer

    def _keep(self, data: bytes, limit: int) -> None:
        self._size += len(data)
        if self._size <= limit:
            self._held.append(data)
        elif self._mode is not Mode.ERROR:  # of an error, the beginning will do
            raise UpstreamProtocolError(f"backend {self._attempt.backend!r} answered more than {limit} bytes")

    def _commit(self) -> None:
        self._mode = Mode.FLOW
        now = self._produced()
        if self._exchange.committed is None:
            self._exchange.committed = now
        if not self._shown:
            self._show()
        if self._upstream_call is not None:
            self._responder.attach(self._upstream_call)
            self._upstream_call.producing()
        held = b"".join(self._held)
        self._held = []
        if held:
            self._responder.write(held)

    def _produced(self) -> float:
        """The attempt's first content is here: the time."""
        now = self._attempt.first_token = time.monotonic()
        lease = self._lease
        if lease is not None and lease.awaited:
            lease.first_token(now)
        return now

    def _show(self) -> None:
        """The head of a stream goes to the client."""
        self._shown = True
        self._hint()
        self._responder.begin(*self._beginning())

    def _hint(self) -> None:
        if self._snapshot.config.routing.headers:
            self._exchange.fields += hints(self._exchange)

    def _beginning(self) -> tuple[int, Pairs]:
        return 200, self._door.STREAM_HEADERS

    def _told_inside(self, error: GhostError) -> None:
        self._responder.write(self._answer.broken(error))
        self._responder.end(close=True)

    def _deliver(self, body: bytes) -> None:
        encoding = self._head.headers.get(b"content-encoding")
        if encoding is not None:
            body = _decoded(body, encoding, self._snapshot.answer_bytes, self._attempt.backend)
        out = self._answer.whole(body)
        now = self._exchange.committed = self._produced()
        self._succeed(now)
        if self._snapshot.config.routing.headers:
            self._exchange.fields += hints(self._exchange)
        self._responder.respond(200, self._door.WHOLE_HEADERS, out)


def _decoded(body: bytes, encoding: bytes, limit: int, backend: str) -> bytes:
    """Undoes a Content-Encoding that was not asked for, as some servers send whatever they are told."""
    try:
        return bytes(decode_body(body, encoding, limit))
    except GhostError as error:
        raise UpstreamProtocolError(
            f"backend {backend!r}: its answer's {encoding!r} cannot be undone: {error.message}"
        ) from None
