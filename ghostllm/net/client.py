"""The upstream side: calls to one origin over pooled HTTP/1.1 connections, driven by transport callbacks.

    call = client.start(request, fields, sink, limits)             returns at once, and before any of these:
    sink.head(head); sink.data(bytes)…; sink.end()                 or sink.fail(error), once, at any time
    sink.whole(head, body)                                         instead, of an answer that came in one go
    call.cancel()                                                  silence from now on; the connection is
    closed

A connection that had been used before and dies before the first byte of an answer was stale: the call is sent
once more on a fresh one. Nothing else is sent twice here; failing over is the gateway's business.
"""

from __future__ import annotations

import asyncio
import errno
import re
import ssl
from dataclasses import dataclass
from typing import Protocol

from ghostllm.errors import GhostError, UpstreamConnectError, UpstreamRefused, UpstreamTimeout
from ghostllm.message import Pairs, UpstreamRequest
from ghostllm.net.address import Origin
from ghostllm.net.outbox import Outbox
from ghostllm.net.pool import Pool, PoolStats
from ghostllm.net.upstream import UpstreamConnection
from ghostllm.wire.h1 import ResponseHead, request_head
from ghostllm.wire.h1_repeated import ResponseHeads

SWEEP_SECONDS = 0.1
HEAD_CACHE = 64  # distinct (method, path, headers) an origin is asked with: a handful in practice


class Sink(Protocol):
    """Receives one answer. May raise GhostError from head, data, end and whole: the call is then closed and
    `fail`ed.
    """

    def whole(self, head: ResponseHead, body: bytes) -> bool:
        """All of it is here. False: it is not taken this way, and head, data and end follow."""

    def head(self, head: ResponseHead) -> None: ...
    def data(self, data: bytes) -> None: ...
    def end(self) -> None: ...
    def fail(self, error: GhostError) -> None: ...


@dataclass(slots=True, frozen=True)
class TimeLimits:
    """Seconds; 0 = none. head and first_token count from the call's start, idle from the last byte."""

    connect: float = 5.0
    head: float = 300.0
    first_token: float = 300.0
    idle: float = 120.0
    total: float = 0.0


class UpstreamCall:
    """One request on its way to an answer. phase: the time limit that counts now; `since`: from when, but for
    what has come since the last sweep.
    """

    __slots__ = ("connection", "limits", "paused", "phase", "request", "retried", "since", "sink", "started",
    "task", "_client", "_head")  # fmt: skip

    def __init__(
        self,
        client: Client,
        request: UpstreamRequest,
        head: bytes,
        sink: Sink,
        limits: TimeLimits,
        now: float,
    ) -> None:
        self._client = client
        self._head = head
        self.request = request
        self.sink = sink
        self.limits = limits
        self.connection: UpstreamConnection | None = None
        self.task: asyncio.Task[None] | None = None
        self.started = self.since = now
        self.phase = "head"
        self.paused = False
        self.retried = False

    def __repr__(self) -> str:
        return f"<UpstreamCall {self.request.method} {self._client.origin}{self.request.path} {self.phase}>"

    def cancel(self) -> None:
        """Ends the call without a word to the sink. A call that is over already is left alone."""
        self._client.abandon(self)

    def producing(self) -> None:
        """The first content is here: from now on only silence counts."""
        self.phase = "idle"
        self.since = self._client.now()

    def pause(self) -> None:
        self.paused = True
        if self.connection is not None:
            self.connection.pause()

    def resume(self) -> None:
        if self.paused:
            self.paused = False
            if self.phase == "idle":
                self.since = self._client.now()
            if self.connection is not None:
                self.connection.resume()

    def send(self, connection: UpstreamConnection) -> None:
        """Puts the request on `connection`."""
        self.connection = connection
        connection.send(self, [self._head, *self.request.body])

    def expired(self, now: float) -> str | None:
        """The name of the limit that has passed, if one has."""
        limits = self.limits
        if limits.total and now - self.started >= limits.total:
            return "total"
        if self.paused:  # a client that reads slowly is not its upstream's fault
            return None
        phase, connection = self.phase, self.connection
        if phase == "idle" and connection is not None and connection.moved:
            connection.moved = False
            self.since = now
            return None
        limit = (
            limits.idle if phase == "idle"
            else limits.first_token if phase == "first_token"
            else limits.head if phase == "head"
            else limits.connect
        )  # fmt: skip
        return phase if limit and now - self.since >= limit else None


class Client:
    """Keeps connections to one origin. label names it in errors (never its URL: that may be private).
    address: connect there, whatever the origin's host means to a resolver; "": ask the resolver.
    """

    def __init__(
        self,
        origin: Origin,
        label: str,
        *,
        tls: ssl.SSLContext | None = None,
        max_connections: int = 0,
        idle_limit: float = 60.0,
        address: str = "",
    ) -> None:
        self.origin = origin
        self._address = address or origin.host
        self.label = label
        self._tls = tls
        self._idle_limit = idle_limit
        self._loop = asyncio.get_running_loop()
        self.outbox = Outbox(self._loop)
        self.heads = ResponseHeads()
        self._pool: Pool[UpstreamConnection, UpstreamCall] = Pool(max_connections)
        self._calls: set[UpstreamCall] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._heads: dict[int, tuple[Pairs, str, str, bytes]] = {}
        self._closed = False
        self.now = self._loop.time

    def __repr__(self) -> str:
        return f"<Client {self.label} {self._pool!r}>"

    @property
    def stats(self) -> PoolStats:
        return self._pool.stats

    def start(self, request: UpstreamRequest, fields: bytes, sink: Sink, limits: TimeLimits) -> UpstreamCall:
        """Sends `request` with further header lines (`fields`), known to be sound, each with its end."""
        call = UpstreamCall(self, request, self._request_head(request, fields), sink, limits, self.now())
        self._calls.add(call)
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(SWEEP_SECONDS, self._sweep)
        connection = self._pool.take()
        if connection is not None:
            call.send(connection)
        elif self._pool.reserve():
            self._connect(call)
        else:
            self._pool.wait(call)
        return call

    async def close(self) -> None:
        """Closes the idle connections and abandons the calls under way."""
        self._closed = True
        tasks = [call.task for call in self._calls if call.task is not None]
        for call in list(self._calls):
            call.cancel()
        for connection in self._pool.clear():
            connection.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- connecting

    def _request_head(self, request: UpstreamRequest, fields: bytes) -> bytes:
        # Looked up by identity, as a translator has the same few headers for all its requests. The entry
        # holds them, so that nothing else can come to have their id.
        headers, method, path = request.headers, request.method, request.path
        known = self._heads.get(id(headers))
        if known is not None and known[0] is headers and known[1] == method and known[2] == path:
            head = known[3]
        else:
            host = (b"host", self.origin.authority.encode())
            head = request_head(method, self.origin.base + path, (host, *headers))[:-2]
            if len(self._heads) >= HEAD_CACHE:
                self._heads.clear()
            self._heads[id(headers)] = headers, method, path, head
        length = sum(map(len, request.body))
        if length or method in ("POST", "PUT", "PATCH"):
            return b"%b%bcontent-length: %d\r\n\r\n" % (head, fields, length)
        return b"%b%b\r\n" % (head, fields)

    def _connect(self, call: UpstreamCall) -> None:
        call.phase, call.since = "connect", self.now()
        call.task = self._loop.create_task(self._open_connection(call))

    async def _open_connection(self, call: UpstreamCall) -> None:
        origin = self.origin
        connection = UpstreamConnection(self)
        try:
            await self._loop.create_connection(
                lambda: connection,
                self._address,
                origin.port,
                ssl=self._tls if origin.tls else None,
                server_hostname=origin.host if origin.tls else None,
            )
        except (OSError, ssl.SSLError) as error:
            call.task = None
            kind = UpstreamRefused if _refused(error) else UpstreamConnectError
            self._fail(call, kind(f"backend {self.label!r} cannot be reached: {_reason(error)}"))
            self._place_free(None)
            return
        except asyncio.CancelledError:
            connection.close()  # it may have come up in the turn of the loop in which the call was given up
            raise
        call.task = None
        call.phase, call.since = "head", self.now()
        call.send(connection)

    # --- called by connections

    def finished(self, call: UpstreamCall, connection: UpstreamConnection, *, reusable: bool) -> None:
        """The call's answer is whole; the sink has been told."""
        self._calls.discard(call)
        call.connection = None
        if call.paused:
            call.paused = False
            connection.resume()
        if reusable and not self._closed:
            self._place_free(connection)
        else:
            self._place_free(None)
            connection.close()

    def broken(self, call: UpstreamCall, error: GhostError, *, stale: bool) -> None:
        """The call's connection is gone. stale: it had been used before and gave no byte of an answer."""
        call.connection = None
        if stale and not call.retried and call in self._calls:
            call.retried = True
            self._connect(call)
            return
        self._fail(call, error)
        self._place_free(None)

    def lost(self, connection: UpstreamConnection) -> None:
        """A connection without a call is gone."""
        self._pool.drop(connection)

    # --- ends

    def abandon(self, call: UpstreamCall) -> None:
        if call not in self._calls:
            return
        self._calls.discard(call)
        if call.connection is not None:
            call.connection.abandon()
            call.connection = None
        elif call.task is not None:
            call.task.cancel()
            call.task = None
        else:
            self._pool.leave(call)
            return
        self._place_free(None)

    def _fail(self, call: UpstreamCall, error: GhostError) -> None:
        if call in self._calls:
            self._calls.discard(call)
            call.sink.fail(error)

    def _place_free(self, connection: UpstreamConnection | None) -> None:
        """An active place is free, with an open connection or without: the next call in line gets it."""
        waiting = self._pool.free(connection, self.now())
        if waiting is None:
            return
        if connection is not None:
            waiting.phase, waiting.since = "head", self.now()
            waiting.send(connection)
        else:
            self._connect(waiting)

    def _sweep(self) -> None:
        now = self.now()
        for call in list(self._calls):
            limit = call.expired(now)
            if limit is not None:
                self._expire(call, limit)
        for connection in self._pool.expired(now - self._idle_limit):
            connection.close()
        busy = self._calls or self._pool.stats.idle
        self._sweeper = self._loop.call_later(SWEEP_SECONDS, self._sweep) if busy else None

    def _expire(self, call: UpstreamCall, limit: str) -> None:
        seconds: float = getattr(call.limits, limit)
        self.abandon(call)
        call.sink.fail(
            UpstreamTimeout(
                f"backend {self.label!r}: {_LIMIT_WORDS[limit]} within {seconds:g} s", limit=limit
            )
        )


_LIMIT_WORDS = {
    "connect": "no connection",
    "head": "no response head",
    "first_token": "no first token",
    "idle": "nothing more came",
    "total": "no complete answer",
}


def _refused(error: BaseException) -> bool:
    """Of a name with several addresses, the error has one line for each and no number of its own."""
    numbers = re.findall(r"\[Errno (-?\d+)\]", str(error))
    return bool(numbers) and set(numbers) == {str(errno.ECONNREFUSED)}


def _reason(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate does not verify: {error.verify_message}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
