"""The HTTP/1.1 way back to a client: frames one answer and writes it to its connection's transport."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ghostllm.message import Exchange, Pairs
from ghostllm.ports import Flow
from ghostllm.wire.body import LAST_CHUNK, chunk
from ghostllm.wire.h1 import date_value, response_head

if TYPE_CHECKING:
    from ghostllm.net.connection import Connection


class H1Responder:
    """Implements ports.Responder for one exchange. After the connection is lost every call is a no-op."""

    __slots__ = ("_chunked", "_connection", "_exchange", "_head_only", "begun", "ended")

    def __init__(self, connection: Connection, exchange: Exchange) -> None:
        self._connection = connection
        self._exchange = exchange
        self._head_only = exchange.request.method == "HEAD"
        self._chunked = False
        self.begun = False
        self.ended = False

    def respond(self, status: int, headers: Pairs, body: bytes) -> None:
        connection = self._connection
        self.begun = self.ended = True
        self._exchange.status = status
        head = response_head(
            status,
            headers,
            length=len(body),
            chunked=False,
            close=not connection.keep,
            date=date_value(int(time.time())),
        )
        if self._head_only or not body:
            connection.write(head)
        else:
            self._exchange.bytes_out += len(body)
            connection.write_all([head, body])

    def begin(self, status: int, headers: Pairs) -> None:
        connection = self._connection
        self.begun = True
        self._exchange.status = status
        self._chunked = self._exchange.request.minor > 0
        if not self._chunked:  # an HTTP/1.0 client knows no chunks: the end of the connection ends the answer
            connection.keep = False
        connection.write(
            response_head(
                status,
                headers,
                length=None,
                chunked=self._chunked,
                close=not connection.keep,
                date=date_value(int(time.time())),
            )
        )

    def write(self, data: bytes) -> None:
        """data: not empty, since an empty chunk would end the body."""
        self._exchange.bytes_out += len(data)
        if not self._head_only:
            self._connection.write(chunk(data) if self._chunked else data)

    def end(self, *, close: bool = False) -> None:
        self.ended = True
        if close:
            self._connection.keep = False
        if self._chunked and not self._head_only:
            self._connection.write(LAST_CHUNK)

    def attach(self, source: Flow) -> None:
        self._connection.attach(source)
