"""`n` answers from backends that give one at a time: as many generations, and what they say put together.

Each generation answers to a branch, which stands where its client would. The first to fail ends them all: one
answer less is not what was asked for.
"""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ghostllm import jsonx
from ghostllm.api.choices import Interleave, merge_whole
from ghostllm.errors import GhostError, UnsupportedValue
from ghostllm.gateway.generation import Generation
from ghostllm.gateway.snapshot import Snapshot
from ghostllm.message import Exchange, Pairs, Usage
from ghostllm.ports import Door, Flow, Responder, Work

if TYPE_CHECKING:
    from ghostllm.gateway.generate import Generator

MOST = 32  # answers to one request: each is a request of its own to the backend


class Fanout:
    """Implements ports.Work."""

    def __init__(
        self, generator: Generator, snapshot: Snapshot, door: Door, exchange: Exchange, responder: Responder
    ) -> None:
        self._generator = generator
        self._snapshot = snapshot
        self._door = door
        self._exchange = exchange
        self._responder = responder
        self._generations: list[Generation] = []
        self._branches: list[Branch] = []
        self._sources: list[Flow] = []
        self._over = False

    def __repr__(self) -> str:
        return f"<Fanout of {len(self._branches)} for {self._exchange!r}>"

    def start(self, count: int) -> None:
        """Raises UnsupportedValue for more than MOST."""
        call = self._exchange.call
        assert call is not None
        if count > MOST:
            raise UnsupportedValue(f"n must be at most {MOST} here", param="n")
        fields: Mapping[str, Any] = {name: value for name, value in call.fields.items() if name != "n"}
        if call.stream:  # to be added up, whether the client wants to see it or not
            fields = {**fields, "stream_options": {"include_usage": True}}
        one = replace(call, fields=dict(fields), body=jsonx.dumps(fields), wants_usage=True)
        self._interleave = Interleave(count, usage=call.wants_usage)
        for number in range(count):
            exchange = Exchange(self._exchange.request, self._exchange.request_id, self._exchange.received)
            exchange.identity, exchange.call = self._exchange.identity, replace(one)
            exchange.group = self._exchange.group
            branch = Branch(self, number, exchange)
            self._branches.append(branch)
            generation = Generation(self._generator, self._snapshot, self._door, exchange, branch)
            generation.mute = True  # the branches' streams are put together, event by event
            self._generations.append(generation)
        for generation in self._generations:
            if not self._over:
                generation.start()

    def cancel(self) -> None:
        """The client has left."""
        self._stop()
        self._tally()
        self._exchange.usage.partial = True

    # --- for the branches

    def run(self, work: Coroutine[Any, Any, None]) -> Work:
        return self._responder.run(work)

    def attach(self, source: Flow) -> None:
        self._sources.append(source)
        self._responder.attach(self)

    def pause(self) -> None:
        for source in self._sources:
            source.pause()

    def resume(self) -> None:
        for source in self._sources:
            source.resume()

    def stream(self, number: int, data: bytes) -> None:
        """Bytes of one of the streams."""
        if self._over:
            return
        out = self._interleave.feed(number, data)
        if self._exchange.committed is None:
            self._exchange.committed = self._branches[number].exchange.committed
            self._responder.begin(200, self._door.STREAM_HEADERS)
        if out:
            self._responder.write(out)

    def ended(self) -> None:
        """One of the answers is whole."""
        if self._over or not all(branch.done for branch in self._branches):
            return
        self._over = True
        self._tally()
        self._exchange.outcome = "ok"
        if self._exchange.committed is not None:
            self._responder.end()
            return
        self._exchange.committed = max(branch.exchange.committed or 0.0 for branch in self._branches)
        body = merge_whole([branch.body for branch in self._branches])
        self._responder.respond(200, self._door.WHOLE_HEADERS, body)

    def failed(self, error: GhostError) -> None:
        """One of them failed before it said anything."""
        if self._over:
            return
        self._stop()
        self._tally()
        if self._exchange.committed is None:
            self._responder.fail(error)
            return
        self._broken(error)

    def broke(self, error: GhostError | None) -> None:
        """One of the streams ended with an error, which the client has just been told."""
        if not self._over:
            self._stop()
            self._tally()
            self._exchange.error = error
            self._exchange.outcome = "broken"
            self._responder.end(close=True)

    def _broken(self, error: GhostError) -> None:
        self._exchange.error = error
        self._exchange.outcome = "broken"
        self._responder.write(b"data: " + self._door.render_error(error) + b"\n\n")
        self._responder.end(close=True)

    def _stop(self) -> None:
        self._over = True
        for branch, generation in zip(self._branches, self._generations, strict=True):
            if not branch.done:
                generation.cancel()

    def _tally(self) -> None:
        """The exchange's books: all attempts, and what all of them spent."""
        usage = Usage()
        for branch in self._branches:
            spent = branch.exchange.usage
            usage.prompt = _sum(usage.prompt, spent.prompt)
            usage.completion = _sum(usage.completion, spent.completion)
            usage.cached = _sum(usage.cached, spent.cached)
            usage.reasoning = _sum(usage.reasoning, spent.reasoning)
            usage.partial = usage.partial or spent.partial
            self._exchange.attempts.extend(branch.exchange.attempts)
            self._exchange.backend = branch.exchange.backend or self._exchange.backend
        self._exchange.usage = usage


class Branch:
    """Implements ports.Responder for one of the generations."""

    __slots__ = ("_fanout", "_number", "body", "done", "exchange")

    def __init__(self, fanout: Fanout, number: int, exchange: Exchange) -> None:
        self._fanout = fanout
        self._number = number
        self.exchange = exchange
        self.body = b""
        self.done = False

    def respond(self, status: int, headers: Pairs, body: bytes) -> None:
        self.body = body
        self.done = True
        self._fanout.ended()

    def begin(self, status: int, headers: Pairs) -> None:
        pass  # with the first bytes: which of the streams has them does not matter

    def write(self, data: bytes) -> None:
        self._fanout.stream(self._number, data)

    def end(self, *, close: bool = False) -> None:
        self.done = True
        if close:
            self._fanout.broke(self.exchange.error)
        else:
            self._fanout.ended()

    def fail(self, error: GhostError) -> None:
        self.done = True
        self._fanout.failed(error)

    def run(self, work: Coroutine[Any, Any, None]) -> Work:
        return self._fanout.run(work)

    def attach(self, source: Flow) -> None:
        self._fanout.attach(source)


def _sum(one: int | None, other: int | None) -> int | None:
    return one if other is None else other if one is None else one + other
