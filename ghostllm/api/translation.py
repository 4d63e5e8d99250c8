"""An answer in one dialect becomes an answer in another: a reader's events, given to a writer.

Any reader goes with any writer; a stream goes event by event, a whole answer as its events put together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ghostllm.api.canonical import Answer, Continuation, Conversation, Embeddings, Event, Fold
from ghostllm.api.dialect import Dialect as Dialect
from ghostllm.api.dialect import Mint as Mint
from ghostllm.api.told import Said, Told, told_by
from ghostllm.errors import GhostError
from ghostllm.message import Call, Usage

Neutral = Conversation | Continuation | Embeddings

KEPT = 256
"""Events that are kept as they are, before they are put together."""


class Reader(Protocol):
    """Understands a backend's answer. Its methods raise what `ports.Answer` says of its own."""

    usage: Usage
    committed: bool
    complete: bool
    fault: GhostError | None

    def feed(self, data: bytes) -> list[Event]: ...
    def finish(self) -> list[Event]: ...
    def whole(self, body: bytes) -> list[Event]: ...


class Writer(Protocol):
    """Speaks a client's dialect."""

    def event(self, event: Event) -> bytes:
        """The bytes of an event in a stream; b"" where the dialect has nothing for it."""

    def end(self) -> bytes:
        """The terminator of a stream."""

    def error(self, error: GhostError) -> bytes:
        """The end of a stream that has begun and cannot go on."""

    def whole(self, answer: Answer) -> bytes:
        """The body of an answer that is not streamed."""


class Translation:
    """A `ports.Answer` between two dialects. check: raises UpstreamError for a whole answer that is not what
    was asked for.
    """

    __slots__ = ("_check", "_reader", "_write", "_writer", "committed", "complete", "usage")

    def __init__(self, reader: Reader, writer: Writer, check: Callable[[Answer], None] | None = None) -> None:
        self._check = check
        self._reader = reader
        self._writer = writer
        self._write = writer.event
        self.usage = reader.usage
        self.committed = False
        self.complete = False

    @property
    def fault(self) -> GhostError | None:
        return self._reader.fault

    @property
    def reader(self) -> Reader:
        return self._reader

    def feed(self, data: bytes) -> bytes:
        return self._written(self._reader.feed(data))

    def finish(self) -> bytes:
        return self._written(self._reader.finish()) + self._writer.end()

    def whole(self, body: bytes) -> bytes:
        answer = Fold(self._reader.whole(body)).answer()
        if self._check is not None:
            self._check(answer)
        self.committed = self.complete = True
        return self._writer.whole(answer)

    def broken(self, error: GhostError) -> bytes:
        return self._writer.error(error)

    def _written(self, events: list[Event]) -> bytes:
        self.complete = self._reader.complete
        out = self._write(events[0]) if len(events) == 1 else b"".join(map(self._write, events))
        if out and not self.committed:  # a writer may keep content back, such as a call until it is whole
            self.committed = self._reader.committed
        return out


class KeptTranslation(Translation):
    """A translation that remembers what it told: a `told.Telling`."""

    __slots__ = ("_events", "_said")

    def __init__(self, reader: Reader, writer: Writer) -> None:
        super().__init__(reader, writer)
        self._events: list[Event] = []
        self._said = Said()

    def told(self, created: int, mint: Mint) -> Told:
        """See told.Telling. The writer is the one that wrote the stream so far."""
        self._fold()
        return told_by(self._said, self._writer, self.usage)

    def _written(self, events: list[Event]) -> bytes:
        out = super()._written(events)
        self._events += events
        if len(self._events) > KEPT:
            self._fold()
        return out

    def _fold(self) -> None:
        events, self._events = self._events, []
        self._said.add(events)


def translation(
    call: Call, reader: Reader, writer: Writer, check: Callable[[Answer], None] | None = None
) -> Translation:
    """The answer to `call`; one that can be gone on with where it asks for that. check: see Translation."""
    if call.rescue and call.stream:
        return KeptTranslation(reader, writer)
    return Translation(reader, writer, check)
