"""One connection to an upstream: writes a request, reads its answer, and tells the call's sink as the bytes
arrive.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from ghostllm.errors import GhostError, UpstreamCut, UpstreamError, UpstreamProtocolError
from ghostllm.message import Buffers
from ghostllm.wire.body import ChunkedReader, LengthReader, UntilCloseReader, only_chunk
from ghostllm.wire.h1 import ResponseHead, find_head_end

if TYPE_CHECKING:
    from ghostllm.net.client import Client, Sink, UpstreamCall

HEAD_LIMIT = 64 * 1024

BodyReader = LengthReader | ChunkedReader | UntilCloseReader


class UpstreamConnection(asyncio.Protocol):
    """Belongs to one client; carries one call at a time. moved: bytes have come since that was last asked,
    which costs a token less than asking for the time.

    A token's way is `data_received`, and it stays short in objects, too: with hundreds of streams each of
    them has left the processor's cache since the last token.
    """

    __slots__ = (
        "_answered", "_call", "_client", "_flow", "_head", "_out", "_pending", "_reader", "_transport",
        "_used", "moved",
    )  # fmt: skip

    def __init__(self, client: Client) -> None:
        self._client = client
        self._transport: asyncio.Transport | None = None
        self._call: UpstreamCall | None = None
        self._head: ResponseHead | None = None
        self._reader: BodyReader | None = None
        self._flow: Sink | None = None  # of a body in chunks, between two of them
        self._out: Buffers = []
        self._pending = b""
        self._answered = False  # a byte of the current answer has come
        self._used = False  # an earlier call has been answered here
        self.moved = False

    def __repr__(self) -> str:
        return f"<UpstreamConnection {self._client.label} {self._call!r}>"

    # --- for the client and its calls

    def send(self, call: UpstreamCall, parts: Buffers) -> None:
        if self._transport is None:  # lost in the moment between being picked and being used
            self._client.broken(call, self._lost_error(), stale=self._used)
            return
        self._call = call
        self._answered = False
        if not self._out:
            self._client.outbox.add(self)
        self._out += parts
        if call.paused:
            self.pause()

    def flush(self) -> None:
        out, transport = self._out, self._transport
        self._out = []
        if out and transport is not None and not transport.is_closing():
            transport.writelines(out)

    def pause(self) -> None:
        if self._transport is not None and self._transport.is_reading():
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._transport is not None and not self._transport.is_reading():
            self._transport.resume_reading()

    def abandon(self) -> None:
        """Closes at once, without a word to the call."""
        self._call = self._flow = None
        self._out = []
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    # --- transport callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's transports are of no common class
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        flow = self._flow
        self.moved = True
        if flow is not None and (payload := only_chunk(data)):
            try:
                flow.data(payload)
            except GhostError as error:
                self._break(self._call, error)
        else:
            self._receive(data)

    def _receive(self, data: bytes) -> None:
        call, reader = self._call, self._reader
        if call is None:  # bytes that nobody asked for
            self.close()
            return
        self._answered = True
        try:
            if reader is None:
                self._read_head(call, data)
            else:
                self._read_body(call, reader, data)
        except GhostError as error:
            self._break(call, error)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = self._flow = None
        call, self._call = self._call, None
        if call is None:
            self._client.lost(self)
            return
        if exc is None and isinstance(self._reader, UntilCloseReader):
            try:
                call.sink.end()
            except GhostError as error:
                self._client.broken(call, error, stale=False)
            else:
                self._client.finished(call, self, reusable=False)
            return
        self._client.broken(call, self._lost_error(), stale=self._used and not self._answered)

    # --- reading

    def _read_head(self, call: UpstreamCall, data: bytes) -> None:
        start = 0
        if self._pending:
            start = max(0, len(self._pending) - 3)
            data = self._pending + data
        while True:
            end = find_head_end(data, start)
            if end < 0:
                self._wait_for_head(data)
                return
            head = self._client.heads.read(data[:end], call.request.method)
            data, start = data[end:], 0
            if head.status >= 200:
                break
            if head.status == 101:
                raise UpstreamProtocolError(f"backend {self._client.label!r} switched protocols unasked")
        self._pending = b""
        self._head = head
        if data and head.content_length == len(data) and not head.bodiless and call.sink.whole(head, data):
            self._answered_in_full(call, head, clean=True)
            return
        call.phase, call.since = "first_token", call.started
        call.sink.head(head)
        reader = self._reader = _body_reader(head)
        if data or reader.done:
            self._read_body(call, reader, data)

    def _wait_for_head(self, data: bytes) -> None:
        if len(data) > HEAD_LIMIT:
            raise UpstreamProtocolError(
                f"backend {self._client.label!r}: response head over {HEAD_LIMIT} bytes"
            )
        self._pending = data

    def _read_body(self, call: UpstreamCall, reader: BodyReader, data: bytes) -> None:
        payload = reader.feed(data)
        if self._call is not call:  # the sink has cancelled the call on seeing the head
            return
        self._flow = call.sink if reader.between else None
        if payload:
            call.sink.data(payload)
        if reader.done:
            self._finish(call, clean=not reader.rest)

    def _finish(self, call: UpstreamCall, *, clean: bool) -> None:
        """clean: nothing came behind the answer."""
        head = self._head
        if self._call is not call or head is None:  # the sink cancelled the call meanwhile
            return
        call.sink.end()
        self._answered_in_full(call, head, clean=clean)

    def _answered_in_full(self, call: UpstreamCall, head: ResponseHead, *, clean: bool) -> None:
        self._call = self._flow = self._head = self._reader = None
        self._used = True
        alive = self._transport is not None and not self._transport.is_closing()
        self._client.finished(call, self, reusable=head.keep_alive and clean and alive)

    def _break(self, call: UpstreamCall | None, error: GhostError) -> None:
        if call is None or self._call is not call:
            return
        self._call = self._flow = None
        if self._transport is not None:
            self._transport.abort()
        self._client.broken(call, error, stale=False)

    def _lost_error(self) -> UpstreamError:
        label = self._client.label
        if self._head is None:
            return UpstreamError(f"backend {label!r} closed the connection without an answer")
        return UpstreamCut(f"backend {label!r} closed the connection before its answer was whole")


def _body_reader(head: ResponseHead) -> BodyReader:
    if head.bodiless:
        return LengthReader(0)
    if head.chunked:
        return ChunkedReader(UpstreamProtocolError)
    if head.content_length is not None:
        return LengthReader(head.content_length)
    return UntilCloseReader()
