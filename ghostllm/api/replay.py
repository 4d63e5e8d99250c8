"""How the events of a new answer go on in a stream that has begun: the rest of a text that was continued, or
what follows in an answer that was asked for again. Both give out nothing that has been told.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Protocol

from ghostllm.api.canonical import (
    Event,
    Finish,
    ReasoningDelta,
    RefusalDelta,
    Start,
    TextDelta,
    ToolCallDelta,
    UsageEvent,
)
from ghostllm.api.told import Run, Said, Sort
from ghostllm.errors import UpstreamProtocolError

ECHO = 16
"""Characters of a text that repeats itself by chance in no answer worth having."""


class Course(Protocol):
    def take(self, events: Iterable[Event]) -> list[Event]:
        """The events that go on. Raises UpstreamProtocolError for an answer that does not."""


class Rest:
    """The rest of a text. sent: what the backend was to go on with. blank: white space that followed it,
    which the client has and the backend has not seen: where the rest begins with it, or a part of it, that is
    left out.

    A backend may repeat the text that it was given; that echo is taken out. Its thoughts are, too: they come
    too late.
    """

    __slots__ = ("_blank", "_echo", "_held")

    def __init__(self, sent: str, blank: str) -> None:
        self._echo = sent if len(sent) >= ECHO else ""
        self._blank = blank
        self._held = ""  # what could still be a part of either

    def take(self, events: Iterable[Event]) -> list[Event]:
        out: list[Event] = []
        for event in events:
            if isinstance(event, TextDelta):
                self._text(self._new(event.text, over=False), out)
            elif not isinstance(event, Start | ReasoningDelta):  # something else, or the end
                self._text(self._new("", over=True), out)
                out.append(event)
        return out

    def _text(self, text: str, out: list[Event]) -> None:
        if text:
            out.append(TextDelta(text))

    def _new(self, text: str, *, over: bool) -> str:
        """over: nothing follows that belongs to what is held."""
        text, self._held = self._held + text, ""
        if self._echo:
            if self._echo.startswith(text) and text != self._echo and not over:
                self._held = text
                return ""
            text, self._echo = text.removeprefix(self._echo), ""
        if self._blank:
            lead = text[: len(text) - len(text.lstrip())]
            if lead == text and len(lead) < len(self._blank) and not over:
                self._held = text
                return ""
            text, self._blank = text[len(_repeated(lead, self._blank)) :], ""
        return text


def _repeated(lead: str, blank: str) -> str:
    """What of the white space in front has been told."""
    if lead.startswith(blank):
        return blank
    return lead if blank.startswith(lead) or blank.endswith(lead) else ""


class _Told:
    """A run as it was when the repetition began. at: so many of its characters have been repeated. met: a
    call, which may have no arguments, has come up again.
    """

    __slots__ = ("at", "closed", "met", "name", "sort", "text")

    def __init__(self, run: Run) -> None:
        self.sort, self.name, self.text, self.closed = run.sort, run.name, run.text, run.closed
        self.at = 0
        self.met = run.sort != "call"


class Repetition:
    """What follows in an answer that was asked for again, once all that was told has been repeated in it
    character by character. source: how errors name the backend. Ids of calls are not compared.
    """

    __slots__ = ("_calls", "_held", "_run", "_runs", "_source")

    def __init__(self, said: Said, source: str) -> None:
        """Of what was said until now: more will be, in the course of this answer."""
        self._source = source
        self._runs = [_Told(run) for run in said.runs]
        self._run = 0  # that is being repeated
        self._calls = {index: _Told(call) for index, call in said.calls.items()}
        self._held: list[Event] = []  # new, but not everything told has been repeated

    def take(self, events: Iterable[Event]) -> list[Event]:
        out: list[Event] = []
        for event in events:
            if isinstance(event, Finish) and not self._is_over():
                raise self._differs("it ended before that")
            rest = self._rest(event)
            if rest is not None:
                self._held.append(rest)
        if self._is_over():
            out, self._held = self._held, []
        return out

    def _is_over(self) -> bool:
        return all(told.met and told.at == len(told.text) for told in (*self._runs, *self._calls.values()))

    def _rest(self, event: Event) -> Event | None:
        """What of an event is new."""
        if isinstance(event, TextDelta):
            text = self._spoken("text", event.text)
            return TextDelta(text) if text else None
        if isinstance(event, RefusalDelta):
            text = self._spoken("refusal", event.text)
            return RefusalDelta(text) if text else None
        if isinstance(event, ReasoningDelta):
            return self._thought(event)
        if isinstance(event, ToolCallDelta):
            return self._called(event)
        return event if isinstance(event, Finish | UsageEvent) else None

    def _spoken(self, sort: Sort, text: str) -> str:
        while text and self._run < len(self._runs):
            run = self._runs[self._run]
            left = len(run.text) - run.at
            if run.sort != sort or (left == 0 and run.closed):
                if left:
                    raise self._differs(f"{sort} instead of {run.sort}")
                self._run += 1
                continue
            if left == 0:
                if self._run < len(self._runs) - 1:
                    raise self._differs(f"more {sort}")
                return text
            if run.text[run.at : run.at + len(text)] != text[:left]:
                raise self._differs(f"other {sort}")
            run.at += min(left, len(text))
            text = text[left:]
        return text

    def _thought(self, event: ReasoningDelta) -> Event | None:
        """A signature that has been told is not told again, and no two are alike."""
        if event.redacted and self._run < len(self._runs):
            raise self._differs("sealed thinking")
        text = self._spoken("reasoning", event.text)
        run = self._runs[self._run] if self._run < len(self._runs) else None
        signed = run is not None and run.sort == "reasoning" and run.closed and not text
        rest = replace(event, text=text, signature="" if signed else event.signature)
        return rest if rest.text or rest.signature or rest.redacted else None

    def _called(self, event: ToolCallDelta) -> Event | None:
        call = self._calls.get(event.index)
        if call is None:
            return event
        if event.name and event.name != call.name:
            raise self._differs("a call of another tool")
        told = call.text[call.at : call.at + len(event.arguments)]
        if not event.arguments.startswith(told):
            raise self._differs("other arguments")
        call.met = True
        call.at += len(told)
        rest = event.arguments[len(told) :]
        if rest and call.closed:
            raise self._differs("more arguments")
        return replace(event, arguments=rest, id="", name="") if rest else None

    def _differs(self, how: str) -> UpstreamProtocolError:
        return UpstreamProtocolError(f"{self._source}: the same request went another way: {how}")
