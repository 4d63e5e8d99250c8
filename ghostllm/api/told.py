"""What the client of a stream has been given, kept so that another backend can go on with it.

A stream can break after its client has read a part. Whoever goes on has to know what was said, and to speak
on in the client's stream exactly where it stopped: with the same id, in the block that is open. Answers that
can tell so are `Telling`; they are made where `Call.rescue` says that somebody may ask.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from ghostllm.api.canonical import Event, ReasoningDelta, RefusalDelta, TextDelta, ToolCallDelta
from ghostllm.message import Usage

if TYPE_CHECKING:
    from ghostllm.api.translation import Mint, Writer

FRAGMENTS = 256
"""So many pieces of text are put together: one string takes less memory than many."""

Sort = Literal["text", "reasoning", "refusal", "call"]


class Run:
    """A piece of an answer that is of one sort. closed: nothing can be added to thinking whose signature has
    been given, and to a call that is whole. name, custom: of a call, whose arguments are the text.
    """

    __slots__ = ("_fragments", "closed", "custom", "name", "sort")

    def __init__(self, sort: Sort, name: str = "", custom: bool = False) -> None:
        self.sort: Sort = sort
        self.name = name
        self.custom = custom
        self.closed = False
        self._fragments: list[str] = []

    def __repr__(self) -> str:
        return f"<Run {self.sort} {self.text[:20]!r}>"

    @property
    def text(self) -> str:
        if len(self._fragments) != 1:
            self._fragments = ["".join(self._fragments)]
        return self._fragments[0]

    def add(self, text: str) -> None:
        self._fragments.append(text)
        if len(self._fragments) > FRAGMENTS:
            self._fragments = ["".join(self._fragments)]


class Said:
    """What an answer has said. runs: text, thinking and refusals, in their order. calls: by neutral index.
    deltas: pieces that said something, which is about as many as there were tokens. last: the sort of the
    last of them. unknown: why not everything is here; "" where it is.
    """

    __slots__ = ("calls", "deltas", "last", "runs", "unknown")

    def __init__(self) -> None:
        self.runs: list[Run] = []
        self.calls: dict[int, Run] = {}
        self.deltas = 0
        self.last: Sort = "text"
        self.unknown = ""

    def __repr__(self) -> str:
        return f"<Said {self.deltas} deltas {self.runs} {len(self.calls)} calls>"

    def of(self, sort: Sort) -> str:
        """All that was said of one sort."""
        return "".join(run.text for run in self.runs if run.sort == sort)

    def add(self, events: Iterable[Event]) -> None:
        for event in events:
            if isinstance(event, TextDelta):
                self._say("text", event.text)
                if event.logprobs:
                    self.unknown = "logprobs have been told"
            elif isinstance(event, ReasoningDelta):
                self._think(event)
            elif isinstance(event, ToolCallDelta):
                self._call(event)
            elif isinstance(event, RefusalDelta):
                self._say("refusal", event.text)

    def more(self, sort: Sort, texts: list[str]) -> None:
        """Many pieces of one sort, text or thinking."""
        if said := "".join(texts):
            self._run(sort).add(said)
            self.deltas += len(texts) - texts.count("")
            self.last = sort

    def close_calls(self) -> None:
        """The calls so far are whole."""
        for call in self.calls.values():
            call.closed = True

    def _say(self, sort: Sort, text: str) -> None:
        if text:
            self._run(sort).add(text)
            self.deltas += 1
            self.last = sort

    def _think(self, event: ReasoningDelta) -> None:
        self._say("reasoning", event.text)
        if event.redacted:
            self.unknown = "some thinking is sealed"
        if event.signature:
            self._run("reasoning").closed = True

    def _call(self, event: ToolCallDelta) -> None:
        call = self.calls.get(event.index)
        if call is None:
            call = self.calls[event.index] = Run("call", event.name, event.custom)
        call.name = call.name or event.name
        call.add(event.arguments)
        self.deltas += 1
        self.last = "call"

    def _run(self, sort: Sort) -> Run:
        last = self.runs[-1] if self.runs else None
        if last is None or last.sort != sort or last.closed:
            last = Run(sort)
            self.runs.append(last)
        return last


@dataclass(slots=True, frozen=True)
class Told:
    """Where a client's stream stopped. writer: goes on there. prompt, completion: tokens that the broken
    answer itself had reported by then; None where it had not.
    """

    said: Said
    writer: Writer
    prompt: int | None = None
    completion: int | None = None


def told_by(said: Said, writer: Writer, usage: Usage) -> Told:
    """usage: of the broken answer. Some servers count as they go; others say at the beginning how long the
    prompt is, and that one token has been made, which is then no count of what was said.
    """
    if usage.estimated:
        return Told(said, writer)
    counted = usage.completion is not None and usage.completion >= said.deltas
    return Told(said, writer, usage.prompt, usage.completion if counted else None)


@runtime_checkable
class Telling(Protocol):
    """An answer that can be gone on with."""

    def told(self, created: int, mint: Mint) -> Told:
        """What has been given out until now. created: seconds since 1970, for a stream that does not say when
        it began. mint: makes an id, for one that has none.
        """
