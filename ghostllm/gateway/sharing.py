"""Identical requests in flight that share one call to a backend, for models whose configuration asks for it.

The call belongs to none of its clients: each follows it from its beginning, at its own pace, and only when
the last of them has left is it given up.
"""

from __future__ import annotations

from collections.abc import Callable

from ghostllm.errors import GhostError
from ghostllm.gateway.detached import Detached
from ghostllm.gateway.hints import hints
from ghostllm.message import Exchange, Pairs, Usage
from ghostllm.ports import Flow, Responder, Work

JOINABLE = 1 << 20
"""Bytes of an answer after which nobody joins any more: what has been sent is kept only for those behind."""

Key = tuple[object, ...]


class Shared(Detached):
    """Implements ports.Responder for the one call. work: its generation, set before anything is answered.
    closed: called when nobody may join any more.
    """

    def __init__(self, exchange: Exchange, closed: Callable[[], None]) -> None:
        super().__init__(exchange)
        self.work: Work | None = None
        self._closed = closed
        self._followers: list[Follower] = []
        self._source: Flow | None = None
        self._begun: tuple[int, Pairs] | None = None
        self.pieces: list[bytes] = []
        self._kept = 0
        self._joinable = True

    def __repr__(self) -> str:
        return f"<Shared by {len(self._followers)}: {self.exchange!r}>"

    def join(self, exchange: Exchange, responder: Responder) -> Follower:
        """One more client; it is given what there is so far."""
        follower = Follower(self, exchange, responder)
        self._followers.append(follower)
        if self._begun is not None:
            self._show(follower)
            follower.catch_up()
            responder.attach(follower)
            self.balance()  # it keeps up, be the others behind
        return follower

    def leave(self, follower: Follower) -> None:
        """Its client has gone; the call goes with the last one."""
        if follower in self._followers:
            self._followers.remove(follower)
            if follower.first and self._followers:  # the tokens stay in somebody's books
                follower.first, self._followers[0].first = False, True
            exchange, own = follower.exchange, self.exchange
            exchange.call, exchange.attempts, exchange.backend = own.call, own.attempts, own.backend
            exchange.usage = Usage(prompt=0, completion=0)
            if not self._followers:
                self._close()
                if self.work is not None:
                    self.work.cancel()
                exchange.usage = own.usage
                exchange.usage.partial = True
            else:
                self.balance()

    def balance(self) -> None:
        """The call waits only while every client is behind."""
        if self._source is not None and self._followers:
            if all(follower.paused for follower in self._followers):
                self._source.pause()
            else:
                self._source.resume()

    # --- ports.Responder

    def respond(self, status: int, headers: Pairs, body: bytes) -> None:
        self._close()
        for follower in self._leaving():
            self._book(follower)
            follower.exchange.fields += hints(follower.exchange)
            follower.responder.respond(status, headers, body)

    def begin(self, status: int, headers: Pairs) -> None:
        self._begun = status, headers
        for follower in list(self._followers):
            self._show(follower)

    def write(self, data: bytes) -> None:
        self.exchange.bytes_out += len(data)
        self.pieces.append(data)
        self._kept += len(data)
        if self._kept > JOINABLE:
            self._close()
        for follower in list(self._followers):
            follower.catch_up()
        if not self._joinable:
            self._drop()

    def end(self, *, close: bool = False) -> None:
        self._close()
        for follower in self._leaving():
            follower.catch_up(whole=True)
            self._book(follower)
            follower.responder.end(close=close)

    def fail(self, error: GhostError) -> None:
        self._close()
        for follower in self._leaving():
            self._book(follower)
            follower.responder.fail(error)

    def attach(self, source: Flow) -> None:
        self._source = source
        for follower in list(self._followers):
            follower.responder.attach(follower)

    # --- steps

    def _show(self, follower: Follower) -> None:
        assert self._begun is not None
        self._book(follower)
        follower.exchange.fields += hints(follower.exchange)
        follower.responder.begin(*self._begun)

    def _book(self, follower: Follower) -> None:
        """The client's exchange says what became of the call. Its tokens were spent once: they are in the
        books of the first client only.
        """
        exchange, own = follower.exchange, self.exchange
        exchange.call, exchange.attempts, exchange.plan = own.call, own.attempts, own.plan
        exchange.backend, exchange.queued, exchange.arm = own.backend, own.queued, own.arm
        exchange.cache, exchange.age = own.cache, own.age
        exchange.outcome, exchange.error, exchange.rescued = own.outcome, own.error, own.rescued
        if exchange.committed is None and own.committed is not None:
            exchange.committed = max(own.committed, exchange.received)
        exchange.usage = own.usage if follower.first else Usage(prompt=0, completion=0)

    def _leaving(self) -> list[Follower]:
        followers, self._followers = self._followers, []
        return followers

    def _close(self) -> None:
        if self._joinable:
            self._joinable = False
            self._closed()

    def _drop(self) -> None:
        """Lets go of what everybody has."""
        done = min((follower.position for follower in self._followers), default=0)
        if done:
            del self.pieces[:done]
            for follower in self._followers:
                follower.position -= done


class Follower:
    """Implements ports.Work and ports.Flow for one client of a shared call. position: pieces that it has."""

    __slots__ = ("_shared", "exchange", "first", "paused", "position", "responder")

    def __init__(self, shared: Shared, exchange: Exchange, responder: Responder) -> None:
        self._shared = shared
        self.exchange = exchange
        self.responder = responder
        self.first = exchange.request is shared.exchange.request
        self.paused = False
        self.position = 0

    def cancel(self) -> None:
        self._shared.leave(self)

    def pause(self) -> None:
        self.paused = True
        self._shared.balance()

    def resume(self) -> None:
        self.paused = False
        self.catch_up()
        self._shared.balance()

    def catch_up(self, *, whole: bool = False) -> None:
        """Sends what has not been sent. whole: to a client that reads slowly, too: no more is to come."""
        pieces = self._shared.pieces
        while self.position < len(pieces) and (whole or not self.paused):
            self.position += 1
            self.responder.write(pieces[self.position - 1])
