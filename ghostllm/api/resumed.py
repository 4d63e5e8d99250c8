"""An answer that goes on in a client's stream, where another one has broken off."""

from __future__ import annotations

from collections.abc import Iterable

from ghostllm.api.canonical import Event, Finish, UsageEvent
from ghostllm.api.replay import Course
from ghostllm.api.told import Told
from ghostllm.api.translation import Mint, Reader, Writer
from ghostllm.errors import GhostError, UpstreamProtocolError
from ghostllm.message import Usage
from ghostllm.ports import Answer


class Resumed:
    """A `ports.Answer` that goes on in a client's stream, and a told.Telling: it may break as well.

    own: what this backend reports. continues: it was given what had been told as part of its prompt, so that
    its figures are not those of the whole; usage is.
    """

    __slots__ = (
        "_continues", "_course", "_own", "_part", "_reader", "_said", "_told", "_writer", "committed",
        "complete", "usage",
    )  # fmt: skip

    def __init__(
        self, reader: Reader, course: Course, told: Told, own: Usage, *, continues: bool = False
    ) -> None:
        self._reader = reader
        self._course = course
        self._told = told
        self._said = told.said.deltas  # by the answers before
        self._part = self._said if told.completion is None else told.completion  # tokens of theirs
        self._writer: Writer = told.writer
        self._own = own
        self._continues = continues
        self.usage = Usage() if continues else own
        self.committed = False
        self.complete = False

    def __repr__(self) -> str:
        state = "complete" if self.complete else "committed" if self.committed else "open"
        return f"<Resumed after {self._said} deltas {state}>"

    @property
    def fault(self) -> GhostError | None:
        return self._reader.fault

    def told(self, created: int, mint: Mint) -> Told:
        """See told.Telling."""
        prompt = self._told.prompt
        if prompt is None and not self._continues:
            prompt = self._own.prompt
        return Told(self._told.said, self._writer, prompt)

    def feed(self, data: bytes) -> bytes:
        return self._given(self._reader.feed(data))

    def finish(self) -> bytes:
        return self._given(self._reader.finish()) + self._writer.end()

    def whole(self, body: bytes) -> bytes:
        raise UpstreamProtocolError("the backend answered with one body where a stream was asked for")

    def broken(self, error: GhostError) -> bytes:
        return self._writer.error(error)

    def _given(self, events: Iterable[Event]) -> bytes:
        self.complete = self._reader.complete
        given = self._course.take(events)
        self._told.said.add(given)
        if self._continues:
            self._count()
            given = self._with_usage(given)
        out = b"".join(map(self._writer.event, given))
        if not self.committed:  # a writer may keep content back, such as a call until it is whole
            content = bool(out) and any(not isinstance(event, UsageEvent) for event in given)
            self.committed = content or any(isinstance(event, Finish) for event in given)
        return out

    def _with_usage(self, events: list[Event]) -> list[Event]:
        """Figures come with the finish, and are those of the whole."""
        kept: list[Event] = [event for event in events if not isinstance(event, UsageEvent)]
        if any(isinstance(event, Finish) for event in kept):
            kept.append(UsageEvent(self.usage))
        return kept

    def _count(self) -> None:
        """What the backend counts as its prompt has in it what was told."""
        own, usage, prompt = self._own, self.usage, self._told.prompt
        usage.estimated = True
        usage.prompt = prompt
        usage.completion = self._part + self._told.said.deltas - self._said
        if not self.complete or own.prompt is None or own.completion is None:
            return
        if prompt is None or prompt > own.prompt:
            prompt = max(0, own.prompt - self._part)
        usage.prompt = prompt
        usage.completion = own.prompt + own.completion - prompt
        counted = self._told.prompt is not None and self._told.completion is not None
        usage.estimated = not (counted and prompt + self._part == own.prompt)
        if own.cached is not None:
            usage.cached = min(own.cached, prompt)
        if own.cache_write is not None:
            usage.cache_write = min(own.cache_write, prompt - (usage.cached or 0))
        if not self._told.said.of("reasoning"):
            usage.reasoning = own.reasoning


class Passed:
    """A translation.Reader of an answer that speaks the client's dialect, which `reader` reads."""

    __slots__ = ("_answer", "_reader", "committed", "complete", "fault", "usage")

    def __init__(self, answer: Answer, reader: Reader) -> None:
        self._answer = answer
        self._reader = reader
        self.usage = answer.usage
        self.committed = False
        self.complete = False
        self.fault: GhostError | None = None

    def feed(self, data: bytes) -> list[Event]:
        return self._read(self._answer.feed(data))

    def finish(self) -> list[Event]:
        out = self._answer.finish()
        return self._read(out) + self._reader.finish()

    def whole(self, body: bytes) -> list[Event]:
        return self._reader.whole(self._answer.whole(body))

    def _read(self, out: bytes) -> list[Event]:
        answer, reader = self._answer, self._reader
        events = reader.feed(out) if out else []
        self.committed, self.complete = answer.committed, answer.complete
        self.fault = answer.fault or reader.fault
        return events
