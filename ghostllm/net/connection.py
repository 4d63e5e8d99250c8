"""One client connection: bytes to requests, one at a time and in order, each handed to the application.

The life of a connection:

    HEAD -> BODY -> BUSY -> HEAD …        keep-alive; BODY is skipped when the body came with the head
    HEAD | BODY | BUSY -> LINGER -> CLOSED    after an error answer: the client may still be sending, and
    closing at once
                                          would make the kernel send a reset that can erase the answer
    any -> CLOSED                         the client left; what it asked for is cancelled

While a request is BUSY the socket is still read, so that a client that leaves is noticed at once; what it
pipelines meanwhile waits here, up to a limit.
"""

from __future__ import annotations

import asyncio
import enum
import time
from typing import TYPE_CHECKING, cast

from ghostllm.errors import BodyTooLarge, FramingError, GhostError, HeadTooLarge, RequestTimeout
from ghostllm.message import Exchange, Request
from ghostllm.net.address import peer_name
from ghostllm.net.buffers import shared
from ghostllm.net.responder import H1Responder
from ghostllm.ports import Flow, Handler
from ghostllm.wire import h1
from ghostllm.wire.body import ChunkedReader

if TYPE_CHECKING:
    from ghostllm.net.server import Server

FIRST_ALLOCATION = (
    1 << 20
)  # a claimed Content-Length is not trusted with more memory than this before bytes arrive
DRAIN_LIMIT = 64 * 1024  # a refused request's body up to this size is read, to keep the connection
LINGER_SECONDS = 1.0
LINGER_BYTES = 1 << 20
SLOWEST_BODY = 1024  # bytes/s that a body must average after its grace period


class State(enum.Enum):
    HEAD = "head"
    BODY = "body"
    BUSY = "busy"
    LINGER = "linger"
    CLOSED = "closed"


class Connection(asyncio.BufferedProtocol):
    """keep: whether the connection outlives the current exchange."""

    __slots__ = (
        "_blocked_at", "_body", "_chunks", "_exchange", "_filled", "_handler", "_loop", "_paused_reading",
        "_pending", "_server", "_since", "_source", "_state", "_task", "_transport", "_unsent", "keep",
        "peer",
    )  # fmt: skip

    def __init__(self, server: Server, loop: asyncio.AbstractEventLoop) -> None:
        self._server = server
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._state = State.HEAD
        self._pending = bytearray()  # an unfinished head, or bytes that came while BUSY
        self._body: bytearray | None = (
            None  # a Content-Length body being filled in place, `_filled` bytes so far
        )
        self._filled = 0
        self._chunks: ChunkedReader | None = None
        self._exchange: Exchange | None = None
        self._handler: Handler | None = None
        self._task: asyncio.Task[None] | None = None
        self._source: Flow | None = None
        self._since = loop.time()  # when the current state, or the current head, began
        self._blocked_at: float | None = None  # when the client stopped reading
        self._unsent = 0
        self._paused_reading = False
        self.keep = True
        self.peer = ""

    def __repr__(self) -> str:
        return f"<Connection {self.peer} {self._state.value} {self._exchange!r}>"

    @property
    def idle(self) -> bool:
        return self._state is State.HEAD and not self._pending

    # --- transport callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's transports are of no common class
        self._transport = transport
        self.peer = peer_name(transport.get_extra_info("peername"))
        refusal = self._server.admit(self)
        if refusal is not None:
            self._malformed(refusal)

    def get_buffer(self, sizehint: int) -> memoryview:
        body = self._body
        if body is None:
            return shared
        # Growing belongs here, not after a read: the loop still holds the last view while it reports a read.
        if self._filled == len(body):
            assert self._exchange is not None
            total = self._exchange.request.content_length or 0
            body.extend(bytes(min(total - len(body), len(body))))
        return memoryview(body)[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        if self._body is not None:
            self._filled += nbytes
            assert self._exchange is not None
            if self._filled == self._exchange.request.content_length:
                self._exchange.request.body, self._body = self._body, None
                self._start()
            return
        data = bytes(shared[:nbytes])
        if self._state is State.HEAD:
            self._read_head(data)
        elif self._state is State.BODY:
            self._read_chunks(data)
        elif self._state is State.BUSY:
            self._queue(data)
        else:
            self._discard(nbytes)

    def eof_received(self) -> bool:
        return False  # a client that will send no more is taken to be gone, as nginx takes it

    def connection_lost(self, exc: Exception | None) -> None:
        self._state = State.CLOSED
        self._transport = self._source = None
        self._server.forget(self)
        exchange, task = self._exchange, self._task
        if exchange is None:
            return
        if task is None:
            exchange.outcome = "cancelled"
            self._settle(exchange)
        else:
            # By callback and not in the task: a task cancelled before its first step never runs at all.
            task.add_done_callback(self._cancelled)
            task.cancel()

    def _cancelled(self, _: asyncio.Task[None]) -> None:
        """The task of a client that left has ended. Lets go of it at once: its traceback holds the request's
        body, and the two would wait for each other until the collector comes.
        """
        exchange = self._exchange
        self._task = self._exchange = self._handler = None
        if exchange is not None:
            if exchange.outcome == "open":
                exchange.outcome = "cancelled"
            self._settle(exchange)

    def pause_writing(self) -> None:
        assert self._transport is not None
        self._blocked_at = self._loop.time()
        self._unsent = self._transport.get_write_buffer_size()
        if self._source is not None:
            self._source.pause()

    def resume_writing(self) -> None:
        self._blocked_at = None
        if self._source is not None:
            self._source.resume()

    # --- reading

    def _read_head(self, data: bytes) -> None:
        pending = self._pending
        if pending:
            resume = max(0, len(pending) - 3)
            pending += data
            text: bytes | bytearray = pending
        else:
            resume = 0
            text = data
        if text[:2] == b"\r\n":  # RFC 9112 2.2: an empty line before a request is skipped
            text = text[2:]
            resume = 0
        end = h1.find_head_end(text, resume)
        if end < 0:
            self._wait_for_head(text, resume)
            return
        head, rest = (bytes(text), b"") if end == len(text) else (bytes(text[:end]), bytes(text[end:]))
        self._pending = bytearray()
        try:
            request = h1.read_request(head, self._server.head_limits)
        except GhostError as error:
            self._malformed(error)
        else:
            self._open(request, rest)

    def _wait_for_head(self, text: bytes | bytearray, resume: int) -> None:
        if not self._pending and text:
            self._since = self._loop.time()
        self._pending = text if isinstance(text, bytearray) else bytearray(text)
        error: GhostError | None = None
        if len(text) > self._server.head_limits.head_bytes:
            error = HeadTooLarge(f"the request head exceeds {self._server.head_limits.head_bytes} bytes")
        else:
            error = h1.early_reject(text, resume)
        if error is not None:
            self._malformed(error)

    def _open(self, request: Request, rest: bytes) -> None:
        request.peer = self.peer
        self.keep = h1.keep_alive(request) and not self._server.draining
        self._exchange, self._handler = self._server.application.open(request, time.monotonic())
        length = request.content_length or 0
        if length > self._server.body_limit and self._exchange.error is None:
            self._refuse(BodyTooLarge(f"the request body exceeds {self._server.body_limit} bytes"))
        elif self._handler is None and (length > DRAIN_LIMIT or h1.expects_continue(request)):
            self._answer_error(close=True)
        elif request.chunked:
            self._await_body(request)
            self._chunks = ChunkedReader(FramingError)
            request.body = bytearray()
            if rest:
                self._read_chunks(rest)
        elif len(rest) < length:
            self._await_body(request)
            self._body = bytearray(min(length, max(FIRST_ALLOCATION, len(rest))))
            self._body[: len(rest)] = rest
            self._filled = len(rest)
        else:
            if length:
                request.body, rest = rest[:length], rest[length:]
            if rest:
                self._pending += rest
            self._start()

    def _await_body(self, request: Request) -> None:
        self._state = State.BODY
        self._since = self._loop.time()
        if h1.expects_continue(request):
            self.write(h1.CONTINUE)

    def _read_chunks(self, data: bytes) -> None:
        reader, exchange = self._chunks, self._exchange
        assert reader is not None and exchange is not None
        body = exchange.request.body
        assert isinstance(body, bytearray)
        try:
            body += reader.feed(data)
            if len(body) > self._server.body_limit:
                raise BodyTooLarge(f"the request body exceeds {self._server.body_limit} bytes")
        except GhostError as error:
            self._refuse(error)
            return
        if reader.done:
            self._pending += reader.rest
            self._chunks = None
            self._start()
        elif self._handler is None and len(body) > DRAIN_LIMIT:
            self._answer_error(close=True)

    def _queue(self, data: bytes) -> None:
        self._pending += data
        if len(self._pending) > self._server.pipeline_limit and not self._paused_reading:
            assert self._transport is not None
            self._transport.pause_reading()
            self._paused_reading = True

    def _discard(self, nbytes: int) -> None:
        self._filled += nbytes
        if self._filled > LINGER_BYTES and self._transport is not None:
            self._transport.abort()

    # --- answering

    def _start(self) -> None:
        exchange, handler = self._exchange, self._handler
        assert exchange is not None
        self._state = State.BUSY
        if handler is None:
            self._answer_error(close=False)
        else:
            self._task = self._loop.create_task(self._run(exchange, handler))

    async def _run(self, exchange: Exchange, handler: Handler) -> None:
        responder = H1Responder(self, exchange)
        try:
            await handler(exchange, responder)
        except GhostError as error:
            exchange.error = error
        except Exception as error:
            self._server.report(f"{exchange!r} failed", error)
            exchange.error = exchange.error or GhostError(
                "the gateway failed on this request; its log says why"
            )
        if responder.ended:
            self._done(exchange)
        elif responder.begun:  # half an answer that its handler did not end: the client must see it break
            if self._transport is not None:
                self._transport.abort()
        else:
            exchange.outcome = "error"
            responder.respond(*self._server.application.render(exchange))
            self._done(exchange)

    def _done(self, exchange: Exchange) -> None:
        """The answer has been handed over: the next request, or the end of the connection."""
        self._task = self._exchange = self._handler = self._source = None
        self._settle(exchange)
        if self._transport is None:
            return
        if not self.keep or self._server.draining:
            self._transport.close()
            return
        self._state = State.HEAD
        self._since = self._loop.time()
        if self._pending:
            self._loop.call_soon(self._next)

    def _next(self) -> None:
        """Takes up what was pipelined. Not called directly by `_done`, or refusals would recurse."""
        if self._state is not State.HEAD or self._transport is None:
            return
        data, self._pending = bytes(self._pending), bytearray()
        if self._paused_reading:
            self._paused_reading = False
            self._transport.resume_reading()
        self._read_head(data)

    def _malformed(self, error: GhostError) -> None:
        """Bytes that are no request, or a connection that is not wanted."""
        self._exchange = self._server.application.malformed(error, self.peer, time.monotonic())
        self._answer_error(close=True)

    def _refuse(self, error: GhostError) -> None:
        assert self._exchange is not None
        self._exchange.error = error
        self._answer_error(close=True)

    def _answer_error(self, *, close: bool) -> None:
        exchange = self._exchange
        assert exchange is not None
        if close:
            self.keep = False
        exchange.outcome = "error"
        H1Responder(self, exchange).respond(*self._server.application.render(exchange))
        if close:
            self._exchange = self._handler = self._chunks = self._body = None
            self._settle(exchange)
            self._linger()
        else:
            self._done(exchange)

    def _linger(self) -> None:
        self._state = State.LINGER
        self._since = self._loop.time()
        self._filled = 0
        if self._transport is not None and self._transport.can_write_eof():
            self._transport.write_eof()

    def _settle(self, exchange: Exchange) -> None:
        exchange.finished = time.monotonic()
        self._server.application.closed(exchange)

    # --- for the responder

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def write_all(self, parts: list[bytes]) -> None:
        if self._transport is not None:
            self._transport.writelines(parts)

    def attach(self, source: Flow) -> None:
        self._source = source
        if self._blocked_at is not None:
            source.pause()

    # --- for the server

    def shut(self) -> None:
        """Drain: an idle connection closes now, a busy one after its answer."""
        self.keep = False
        if self.idle and self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def sweep(self, now: float) -> None:
        """Enforces the time limits; called a few times a second for every connection: cheap."""
        if self._blocked_at is not None and self._write_stalled(now):
            self.abort()
            return
        state, limits = self._state, self._server.timeouts
        if state is State.HEAD:
            waited = now - self._since
            if self._pending:
                if limits.header and waited > limits.header:
                    self._malformed(
                        RequestTimeout(f"the request head did not arrive within {limits.header:g} s")
                    )
            elif limits.idle and waited > limits.idle and self._transport is not None:
                self._transport.close()
        elif state is State.BODY:
            self._sweep_body(now)
        elif state is State.LINGER and now - self._since > LINGER_SECONDS:
            self.abort()

    def _sweep_body(self, now: float) -> None:
        assert self._exchange is not None
        grace = self._server.timeouts.body
        received = self._filled if self._body is not None else len(self._exchange.request.body)
        if grace and now - self._since > grace + received / SLOWEST_BODY:
            self._refuse(
                RequestTimeout(f"the request body stalled: {received} bytes in {now - self._since:.0f} s")
            )

    def _write_stalled(self, now: float) -> bool:
        """Whether a client that stopped reading has taken nothing for the whole write limit."""
        assert self._transport is not None and self._blocked_at is not None
        unsent = self._transport.get_write_buffer_size()
        if unsent < self._unsent:
            self._unsent, self._blocked_at = unsent, now
        limit = self._server.timeouts.write
        return bool(limit) and now - self._blocked_at > limit
