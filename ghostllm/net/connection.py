"""One client connection: bytes to requests, one at a time and in order, each handed to the application.

The life of a connection:

    PREFACE -> HEAD                       a trusted proxy says first whose connection it is
    HEAD -> BODY -> BUSY -> HEAD …        keep-alive; BODY is skipped when the body came with the head
    HEAD | BODY | BUSY -> LINGER -> CLOSED    after an error answer: the client may still be sending, and
                                          closing at once would make the kernel send a reset that can erase
                                          the answer
    HEAD | BUSY -> CLOSING -> CLOSED      the last answer is on its way out, if the client takes it
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
from ghostllm.net.guests import Guest
from ghostllm.net.outbox import reset
from ghostllm.net.pace import Drain, Pace
from ghostllm.net.responder import H1Responder
from ghostllm.ports import Flow, Handler, Work
from ghostllm.wire import h1
from ghostllm.wire.body import ChunkedReader
from ghostllm.wire.h1_repeated import RequestHeads
from ghostllm.wire.proxy_protocol import read_preface

if TYPE_CHECKING:
    from ghostllm.net.server import Server

FIRST_ALLOCATION = (
    1 << 20
)  # a claimed Content-Length is not trusted with more memory than this before bytes arrive
DRAIN_LIMIT = 64 * 1024  # a refused request's body up to this size is read, to keep the connection
FORGET_SECONDS = 5.0  # idle: what its heads were like is no longer worth its memory
LINGER_SECONDS = 1.0
LINGER_BYTES = 1 << 20
LARGE = 16 * 1024  # bytes of a piece that is not held back until the end of the turn


class State(enum.Enum):
    PREFACE = "preface"
    HEAD = "head"
    BODY = "body"
    BUSY = "busy"
    LINGER = "linger"
    CLOSING = "closing"
    CLOSED = "closed"


class Connection(asyncio.BufferedProtocol):
    """exchange: the one under way. keep: whether the connection outlives it."""

    __slots__ = (
        "_blocked", "_body", "_chunks", "_filled", "_guest", "_handler", "_heads", "_out", "_outbox", "_pace",
        "_paused_reading", "_pending", "_since", "_source", "_state", "_transport", "_work", "exchange",
        "keep", "loop", "peer", "server",
    )  # fmt: skip

    def __init__(self, server: Server, loop: asyncio.AbstractEventLoop) -> None:
        self.server = server
        self.loop = loop
        self.exchange: Exchange | None = None
        self.keep = True
        self.peer = ""
        self._transport: asyncio.Transport | None = None
        self._state = State.HEAD
        self._heads = RequestHeads()
        self._pending = bytearray()  # an unfinished head, or bytes that came while BUSY
        self._body: bytearray | None = None  # of a declared length, filled in place: `_filled` bytes so far
        self._filled = 0
        self._chunks: ChunkedReader | None = None
        self._handler: Handler | None = None
        self._work: Work | None = None
        self._source: Flow | None = None
        self._out = b""  # what goes out with the next flush
        self._outbox = server.outbox
        self._since = loop.time()  # when the current state, or the current head, began
        self._pace: Pace | None = None  # of the body
        self._blocked: Drain | None = None  # of what is to be sent, while the client does not take it
        self._guest: Guest | None = None  # where it counts
        self._paused_reading = False

    def __repr__(self) -> str:
        return f"<Connection {self.peer} {self._state.value} {self.exchange!r}>"

    @property
    def idle(self) -> bool:
        return self._state is State.HEAD and not self._pending

    # --- transport callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's transports are of no common class
        self._transport = transport
        self.peer = peer_name(transport.get_extra_info("peername"))
        refusal = self.server.admit(self)
        if refusal is not None:
            self._malformed(refusal)
            return
        if self.server.guests.speaks_first(self.peer):
            self._state = State.PREFACE
        else:
            self._introduced()

    def _introduced(self) -> bool:
        """It is known whose connection this is. False: that client may not have another one."""
        try:
            self._guest = self.server.guests.enter(self.peer)
        except GhostError as error:
            self._malformed(error)
            return False
        return True

    def get_buffer(self, sizehint: int) -> memoryview:
        body = self._body
        if body is None:
            return shared
        # Growing belongs here, not after a read: the loop still holds the last view while it reports a read.
        if self._filled == len(body):
            assert self.exchange is not None
            total = self.exchange.request.content_length or 0
            body.extend(bytes(min(total - len(body), len(body))))
        return memoryview(body)[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        if self._body is not None:
            self._filled += nbytes
            assert self.exchange is not None
            if self._filled == self.exchange.request.content_length:
                self.exchange.request.body, self._body = self._body, None
                self._start()
            return
        data = bytes(shared[:nbytes])
        if self._state is State.HEAD:
            self._read_head(data)
        elif self._state is State.BODY:
            self._read_chunks(data)
        elif self._state is State.BUSY:
            self._queue(data)
        elif self._state is State.PREFACE:
            self._read_preface(data)
        else:
            self._discard(nbytes)

    def eof_received(self) -> bool:
        return False  # a client that will send no more is taken to be gone, as nginx takes it

    def connection_lost(self, exc: Exception | None) -> None:
        self._state = State.CLOSED
        self._transport = self._source = None
        self.server.forget(self)
        if self._guest is not None:
            self._guest.leave()
        exchange, work = self.exchange, self._work
        if exchange is None:
            return
        self.exchange = self._work = self._handler = None
        if work is not None:
            work.cancel()
        if exchange.outcome == "open":
            exchange.outcome = "cancelled"
        self._settle(exchange)

    def pause_writing(self) -> None:
        assert self._transport is not None
        self._watch_taking()
        if self._source is not None:
            self._source.pause()

    def resume_writing(self) -> None:
        if self._state is not State.CLOSING:
            self._blocked = None
        if self._source is not None:
            self._source.resume()

    # --- reading

    def _read_preface(self, data: bytes) -> None:
        self._pending += data
        try:
            peer, size = read_preface(bytes(self._pending))
        except GhostError as error:
            self._malformed(error)
            return
        if not size:
            return
        rest, self._pending = bytes(self._pending[size:]), bytearray()
        self.peer = peer or self.peer
        self._state = State.HEAD
        self._since = self.loop.time()
        if self._introduced() and rest:
            self._read_head(rest)

    def _read_head(self, data: bytes) -> None:
        text: bytes | bytearray = data
        resume = 0
        if self._pending:
            resume = max(0, len(self._pending) - 3)
            self._pending += data
            text = self._pending
        if text.startswith(b"\r\n"):  # RFC 9112 2.2: an empty line before a request is skipped
            text = text[2:]
            resume = 0
        end = h1.find_head_end(text, resume)
        if end < 0:
            self._wait_for_head(text, resume)
            return
        if self._pending:
            self._pending = bytearray()
        try:
            request = self._heads.read(bytes(text[:end]), self.server.head_limits)
        except GhostError as error:
            self._malformed(error)
        else:
            self._open(request, bytes(text[end:]))

    def _wait_for_head(self, text: bytes | bytearray, resume: int) -> None:
        if not self._pending and text:
            self._since = self.loop.time()
        self._pending = text if isinstance(text, bytearray) else bytearray(text)
        error: GhostError | None = None
        if len(text) > self.server.head_limits.head_bytes:
            error = HeadTooLarge(f"the request head exceeds {self.server.head_limits.head_bytes} bytes")
        else:
            error = h1.early_reject(text, resume)
        if error is not None:
            self._malformed(error)

    def _open(self, request: Request, rest: bytes) -> None:
        guest, server = self._guest, self.server
        request.peer = self.peer if guest is None else guest.client(request.headers)
        self.keep = h1.keep_alive(request) and not server.draining
        exchange, handler = server.application.open(request, time.monotonic())
        if guest is not None and exchange.error is None:
            exchange.error = guest.begin(request.peer)
            if exchange.error is not None:
                handler = None
        self.exchange, self._handler = exchange, handler
        length = request.content_length or 0
        if length > server.body_limit and exchange.error is None:
            self._refuse(BodyTooLarge(f"the request body exceeds {server.body_limit} bytes"))
        elif handler is None and (length > DRAIN_LIMIT or h1.expects_continue(request)):
            self._answer_error(close=True)
        elif len(rest) == length and not request.chunked:
            request.body = rest
            self._start()
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
            request.body = rest[:length]
            self._pending += rest[length:]
            self._start()

    def _await_body(self, request: Request) -> None:
        self._state = State.BODY
        self._since = self.loop.time()
        self._pace = Pace(self._since)
        if h1.expects_continue(request):
            self.write(h1.CONTINUE)

    def _read_chunks(self, data: bytes) -> None:
        reader, exchange = self._chunks, self.exchange
        assert reader is not None and exchange is not None
        body = exchange.request.body
        assert isinstance(body, bytearray)
        try:
            body += reader.feed(data)
            if len(body) > self.server.body_limit:
                raise BodyTooLarge(f"the request body exceeds {self.server.body_limit} bytes")
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
        if len(self._pending) > self.server.pipeline_limit and not self._paused_reading:
            assert self._transport is not None
            self._transport.pause_reading()
            self._paused_reading = True

    def _discard(self, nbytes: int) -> None:
        self._filled += nbytes
        if self._filled > LINGER_BYTES and self._transport is not None:
            self._transport.abort()

    # --- answering

    def _start(self) -> None:
        exchange, handler = self.exchange, self._handler
        assert exchange is not None
        self._state = State.BUSY
        if handler is None:
            self._answer_error(close=False)
            return
        responder = H1Responder(self, exchange)
        try:
            work = handler(exchange, responder)
        except GhostError as error:
            responder.fail(error)
        except Exception as error:
            responder.crash(error)
        else:
            if self.exchange is exchange:
                self._work = work

    def done(self) -> None:
        """The answer has been handed over: the next request, or the end of the connection."""
        exchange = self.exchange
        assert exchange is not None
        self.exchange = self._work = self._handler = self._source = None
        self._settle(exchange)
        if self._transport is None:
            return
        if not self.keep or self.server.draining:
            self._close()
            return
        self._since = self.loop.time()
        if self._pending:  # still BUSY: what comes until then queues up behind it
            self.loop.call_soon(self._next)
        else:
            self._state = State.HEAD

    def _next(self) -> None:
        """Takes up what was pipelined. Not called directly by `done`, or refusals would recurse."""
        if self._state is not State.BUSY or self._transport is None:
            return
        self._state = State.HEAD
        data, self._pending = bytes(self._pending), bytearray()
        if self._paused_reading:
            self._paused_reading = False
            self._transport.resume_reading()
        self._read_head(data)

    def _malformed(self, error: GhostError) -> None:
        """Bytes that are no request, or a connection that is not wanted."""
        self.exchange = self.server.application.malformed(error, self.peer, time.monotonic())
        self._answer_error(close=True)

    def _refuse(self, error: GhostError) -> None:
        assert self.exchange is not None
        self.exchange.error = error
        self._answer_error(close=True)

    def _answer_error(self, *, close: bool) -> None:
        exchange = self.exchange
        assert exchange is not None
        if close:
            self.keep = False
        exchange.outcome = "error"
        H1Responder(self, exchange).write_answer(*self.server.application.render(exchange))
        if close:
            self.exchange = self._handler = self._chunks = self._body = None
            self._settle(exchange)
            self._linger()
        else:
            self.done()

    def _linger(self) -> None:
        self._state = State.LINGER
        self._since = self.loop.time()
        self._filled = 0
        self.flush()
        if self._transport is not None and self._transport.can_write_eof():
            self._transport.write_eof()

    def _close(self) -> None:
        """Once the client has taken what it is owed; it has to take it."""
        assert self._transport is not None
        self.flush()
        self._state = State.CLOSING
        if self._blocked is None:
            self._watch_taking()
        self._transport.close()

    def _settle(self, exchange: Exchange) -> None:
        if self._guest is not None:
            self._guest.end()
        exchange.finished = time.monotonic()
        if exchange.error is not None:
            exchange.error.forget()
        self.server.application.closed(exchange)

    # --- for the responder

    def write(self, data: bytes) -> None:
        """Sent by the end of this turn of the loop, in one go with what else comes until then; a large piece
        at once, since a loop may read many of them in a turn, and only sending shows that the client is slow.
        """
        if len(data) > LARGE:
            self.flush()
        if self._out:
            self._out += data
        else:
            self._out = data
            self._outbox.add(self)
        if len(self._out) > LARGE:
            self.flush()

    def send(self, data: bytes) -> None:
        """A piece of a stream, which goes out at once: a turn of the loop may read hundreds of them, and the
        first one is not to wait for the last.
        """
        transport = self._transport
        if self._out:
            self.write(data)
        elif transport is not None and not transport.is_closing():
            transport.write(data)

    def flush(self) -> None:
        out, transport = self._out, self._transport
        self._out = b""
        if out and transport is not None and not transport.is_closing():
            transport.write(out)

    def attach(self, source: Flow) -> None:
        self._source = source
        if self._blocked is not None:
            source.pause()

    # --- for the server

    def shut(self) -> None:
        """Drain: an idle connection closes now, a busy one after its answer."""
        self.keep = False
        if self.idle and self._transport is not None:
            self._close()

    def abort(self) -> None:
        self.flush()  # of an answer that breaks off, the client gets what there was
        if self._transport is not None:
            self._transport.abort()

    def sweep(self, now: float) -> None:
        """Enforces the time limits; called a few times a second for every connection: cheap."""
        if self._blocked is not None and self._takes_too_slowly(self._blocked, now):
            assert self._transport is not None
            reset(self._transport)
            return
        state, limits = self._state, self.server.timeouts
        if state is State.HEAD or state is State.PREFACE:
            waited = now - self._since
            if waited > FORGET_SECONDS:
                self._heads.forget()
            if self._pending:
                if limits.header and waited > limits.header:
                    self._malformed(
                        RequestTimeout(f"the request head did not arrive within {limits.header:g} s")
                    )
            elif limits.idle and waited > limits.idle and self._transport is not None:
                self._close()
        elif state is State.BODY:
            self._sweep_body(now)
        elif state is State.LINGER and now - self._since > LINGER_SECONDS:
            self.abort()

    def _sweep_body(self, now: float) -> None:
        pace, server = self._pace, self.server
        assert self.exchange is not None and pace is not None
        received = self._filled if self._body is not None else len(self.exchange.request.body)
        pace.note(now, received)
        if pace.slow(now, server.timeouts.body, server.client_rate):
            self._refuse(
                RequestTimeout(f"the request body stalled: {received} bytes in {now - self._since:.0f} s")
            )

    def _watch_taking(self) -> None:
        assert self._transport is not None
        self._blocked = Drain(self.loop.time(), self._transport.get_write_buffer_size())

    def _takes_too_slowly(self, drain: Drain, now: float) -> bool:
        assert self._transport is not None
        drain.note_left(now, self._transport.get_write_buffer_size())
        return drain.slow(now, self.server.timeouts.write, self.server.client_rate)
