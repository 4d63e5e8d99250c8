"""The one streaming path: a backend's answer, on its way to the client.

A relay is the sink of one upstream call. It holds a stream back until the first content is there (the
commit): until then the attempt can fail without the client noticing, and another can be made. From then on
bytes go through as they come, and a failure is told inside the stream. A whole answer is committed when it is
complete and sound.

`done` is the only thing that is waited for: None when the client has its answer (good or broken), or the
error of an attempt of which the client has seen nothing.
"""

from __future__ import annotations

import asyncio
import enum
import time
from dataclasses import dataclass

from ghostllm.errors import GhostError, UpstreamProtocolError
from ghostllm.message import Attempt, Exchange
from ghostllm.net.client import UpstreamCall
from ghostllm.ports import Answer, Door, Responder, Translator
from ghostllm.wire.encoding import decode_body
from ghostllm.wire.h1 import ResponseHead

ERROR_BODY_LIMIT = 64 * 1024


class Mode(enum.Enum):
    HOLD = "a stream before its commit"
    FLOW = "a stream after its commit"
    WHOLE = "an answer that is delivered whole"
    ERROR = "the body of an error"


@dataclass(slots=True)
class Delivery:
    """Where an answer goes: to whom, by which way, in which dialect."""

    exchange: Exchange
    responder: Responder
    door: Door


class Relay:
    """answer_limit: bytes that a whole answer may have."""

    __slots__ = (
        "_answer", "_answer_limit", "_attempt", "_door", "_exchange", "_head", "_held", "_mode",
        "_responder", "_size", "_stream", "_translator", "call", "done",
    )  # fmt: skip

    def __init__(
        self, to: Delivery, translator: Translator, answer: Answer, attempt: Attempt, answer_limit: int
    ) -> None:
        exchange = to.exchange
        assert exchange.call is not None
        self._exchange = exchange
        self._responder = to.responder
        self._door = to.door
        self._translator = translator
        self._answer = answer
        self._answer_limit = answer_limit
        self._stream = exchange.call.stream
        self._mode = Mode.HOLD if self._stream else Mode.WHOLE
        self._held: list[bytes] = []
        self._size = 0
        self._head: ResponseHead | None = None
        self._attempt = attempt
        self.call: UpstreamCall | None = None
        self.done: asyncio.Future[GhostError | None] = asyncio.get_running_loop().create_future()
        exchange.usage = answer.usage

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
        if not self._stream and self.call is not None:
            self.call.producing()

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
                self._keep(out, self._answer_limit)
            if self._answer.committed:
                self._commit()
        else:
            self._keep(data, self._answer_limit if self._mode is Mode.WHOLE else ERROR_BODY_LIMIT)

    def end(self) -> None:
        if self._mode is Mode.ERROR:
            assert self._head is not None
            body = b"".join(self._held)
            self._over(self._translator.failure(self._head.status, self._head.headers, body))
        elif self._mode is Mode.WHOLE:
            self._deliver(b"".join(self._held))
        else:
            last = self._answer.finish()
            if self._mode is Mode.HOLD:  # complete and empty: that is what the model had to say
                self._commit()
            if last:
                self._responder.write(last)
            self._responder.end()
            self._succeed()

    def fail(self, error: GhostError) -> None:
        if self._mode is not Mode.FLOW:
            self._over(error)
            return
        self._exchange.error = error
        self._exchange.outcome = "broken"
        self._exchange.usage.partial = True
        self._attempt.outcome, self._attempt.error = error.code or "error", error.message
        self._responder.write(self._door.error_event(error))
        self._responder.end(close=True)
        self._resolve(None)

    # --- steps

    def _keep(self, data: bytes, limit: int) -> None:
        self._size += len(data)
        if self._size <= limit:
            self._held.append(data)
        elif self._mode is not Mode.ERROR:  # of an error, the beginning will do
            raise UpstreamProtocolError(f"backend {self._attempt.backend!r} answered more than {limit} bytes")

    def _commit(self) -> None:
        self._mode = Mode.FLOW
        self._exchange.committed = time.monotonic()
        self._responder.begin(200, self._door.STREAM_HEADERS + self._exchange.headers)
        if self.call is not None:
            self._responder.attach(self.call)
            self.call.producing()
        held = b"".join(self._held)
        self._held = []
        if held:
            self._responder.write(held)

    def _deliver(self, body: bytes) -> None:
        assert self._head is not None
        encoding = self._head.headers.get(b"content-encoding")
        if encoding is not None:
            body = _decoded(body, encoding, self._answer_limit, self._attempt.backend)
        out = self._answer.whole(body)
        self._exchange.committed = time.monotonic()
        self._responder.respond(200, self._door.WHOLE_HEADERS + self._exchange.headers, out)
        self._succeed()

    def _succeed(self) -> None:
        self._exchange.outcome = "ok"
        self._attempt.outcome = "ok"
        self._resolve(None)

    def _over(self, error: GhostError) -> None:
        self._attempt.outcome, self._attempt.error = error.code or "error", error.message
        self._resolve(error)

    def _resolve(self, result: GhostError | None) -> None:
        if not self.done.done():  # the client may have left in this very turn of the loop
            self.done.set_result(result)


def _decoded(body: bytes, encoding: bytes, limit: int, backend: str) -> bytes:
    """Undoes a Content-Encoding that was not asked for, as some servers send whatever they are told."""
    try:
        return bytes(decode_body(body, encoding, limit))
    except GhostError as error:
        raise UpstreamProtocolError(
            f"backend {backend!r}: its answer's {encoding!r} cannot be undone: {error.message}"
        ) from None
