"""The HTTP/1.1 way back to a client: frames one answer and writes it to its connection's transport."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from ghostllm.errors import GhostError
from ghostllm.message import Exchange, Pairs
from ghostllm.ports import Flow
from ghostllm.wire.body import LAST_CHUNK, chunk
from ghostllm.wire.h1 import date_value, response_head

if TYPE_CHECKING:
    from ghostllm.net.connection import Connection


TOGETHER = 8 * 1024
"""Bytes of an answer that are copied behind its head: less work than handing over two pieces."""


class H1Responder:
    """Implements ports.Responder for one exchange."""

    __slots__ = ("_chunked", "_connection", "_exchange", "begun")

    def __init__(self, connection: Connection, exchange: Exchange) -> None:
        self._connection = connection
        self._exchange = exchange
        self._chunked = False
        self.begun = False

    def respond(self, status: int, headers: Pairs, body: bytes) -> None:
        if self._connection.exchange is self._exchange:
            self.write_answer(status, headers, body)
            self._connection.done()

    def write_answer(self, status: int, headers: Pairs, body: bytes) -> None:
        """A whole answer; the exchange is not over by it."""
        connection, exchange = self._connection, self._exchange
        self.begun = True
        exchange.status = status
        head = response_head(
            status,
            headers + exchange.headers,
            exchange.fields,
            length=len(body),
            close=not connection.keep,
            date=date_value(int(time.time())),
        )
        if not body or exchange.request.method == "HEAD":
            connection.write(head)
        elif len(body) <= TOGETHER:
            exchange.bytes_out += len(body)
            connection.write(head + body)
        else:
            exchange.bytes_out += len(body)
            connection.write(head)
            connection.write(body)

    def begin(self, status: int, headers: Pairs) -> None:
        connection, exchange = self._connection, self._exchange
        if connection.exchange is not exchange:
            return
        self.begun = True
        exchange.status = status
        chunked = exchange.request.minor > 0
        if not chunked:  # an HTTP/1.0 client knows no chunks: the end of the connection ends the answer
            connection.keep = False
        connection.write(
            response_head(
                status,
                headers + exchange.headers,
                exchange.fields,
                chunked=chunked,
                close=not connection.keep,
                date=date_value(int(time.time())),
            )
        )
        self._chunked = chunked and exchange.request.method != "HEAD"

    def write(self, data: bytes) -> None:
        """data: not empty, since an empty chunk would end the body."""
        exchange = self._exchange
        if self._connection.exchange is exchange:
            exchange.bytes_out += len(data)
            if self._chunked:
                self._connection.send(chunk(data))
            elif exchange.request.method != "HEAD":
                self._connection.send(data)

    def end(self, *, close: bool = False) -> None:
        connection = self._connection
        if connection.exchange is self._exchange:
            if close:
                connection.keep = False
            if self._chunked:
                connection.write(LAST_CHUNK)
            connection.done()

    def fail(self, error: GhostError) -> None:
        if self._connection.exchange is not self._exchange:
            return
        exchange = self._exchange
        exchange.error = error
        if self.begun:  # the client must see that its answer breaks off
            self._connection.abort()
        else:
            exchange.outcome = "error"
            self.respond(*self._connection.server.application.render(exchange))

    def crash(self, error: Exception) -> None:
        """A mistake of ours. The log gets to know which."""
        self._connection.server.report(f"{self._exchange!r} failed", error)
        self.fail(GhostError("the gateway failed on this request; its log says why"))

    def run(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return self._connection.loop.create_task(self._watch(work))

    async def _watch(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except GhostError as error:
            self.fail(error)
        except Exception as error:
            self.crash(error)

    def attach(self, source: Flow) -> None:
        if self._connection.exchange is self._exchange:
            self._connection.attach(source)
