"""The frame of an answer of OpenAI's dialect: its stream of events and its end, around choices of any kind.

Servers disagree on where an answer ends: with `[DONE]`, with the finish reason, with a chunk of usage after
it or with the connection. So the finish reason and the figures are kept until the stream is over and then
come once, in that order; nothing is shown as finished that an error event still follows.

Most events differ from the one before in their text alone. What is around it is learned (`frame`), and the
next one costs a comparison instead of a parse.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ghostllm.api.canonical import (
    Event,
    Finish,
    FinishReason,
    ReasoningDelta,
    Start,
    TextDelta,
    TokenLogprob,
    UsageEvent,
)
from ghostllm.api.openai import events
from ghostllm.api.openai.failures import stream_error
from ghostllm.api.openai.frame import Frame, learn
from ghostllm.api.openai.usage import take_usage
from ghostllm.errors import GhostError, UpstreamCut, UpstreamError, UpstreamProtocolError
from ghostllm.message import Usage

FRAMES = 16
"""Attempts to learn a frame in one answer."""

REASONING = ("reasoning_content", "reasoning", "thinking")
"""The names that servers give to thinking."""

FINISH: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "max_tokens": "length",
    "model_length": "length",  # Mistral: the context is full
    "tool_use": "tool_calls",
    "safety": "content_filter",
}
"""OpenAI's reasons and what others say. A word that is not here is some way to say that the model is done."""

BROKEN = ("abort", "error", "cancelled", "insufficient_system_resource")
"""Finish reasons of an answer that was not finished: vLLM and SGLang, OpenRouter, DeepSeek."""


class Reader:
    """What chat and completions share: a translation.Reader.

    backend: how errors name the server. limit: bytes of its largest event. blot: takes secrets out of its
    messages.
    """

    __slots__ = (
        "_backend", "_blot", "_done", "_frame", "_held", "_kind", "_learned", "_ready", "_reason", "_started",
        "_stop", "committed", "complete", "fault", "usage",
    )  # fmt: skip

    def __init__(self, *, backend: str, limit: int, blot: Callable[[str], str] = str) -> None:
        self.usage = Usage()
        self.committed = False
        self.complete = False
        self.fault: GhostError | None = None
        self._backend = backend
        self._blot = blot
        self._held = events.Held(limit, backend)
        self._started = False
        self._done = False  # the terminator has come; finish reason and figures are out
        self._reason: str | None = None
        self._stop: str | None = None  # the stop sequence met
        self._frame: Frame | None = None
        self._ready: Frame | None = None  # the frame, while a read may be one event
        self._kind: type[TextDelta] | type[ReasoningDelta] = TextDelta  # of the frame's text
        self._learned = 0

    def __repr__(self) -> str:
        state = "done" if self._done else "complete" if self.complete else "open"
        return f"<{type(self).__name__} {self._backend} {state}>"

    # --- what chat and completions differ in

    def _choice(self, choice: dict[str, Any], out: list[Event]) -> None:
        """The events of a choice of a chunk."""
        raise NotImplementedError

    def _whole(self, choice: dict[str, Any], out: list[Event]) -> bool:
        """The events of the choice of a whole answer; False if there is nothing in it."""
        raise NotImplementedError

    def _finish(self, reason: str, out: list[Event]) -> FinishReason:
        """The last events of the content, and what the finish reason means with it."""
        return FINISH.get(reason.lower(), "stop")

    # --- streams

    def feed(self, data: bytes) -> list[Event]:
        """Raises UpstreamAnswered for an error event, UpstreamProtocolError for anything that is no event.

        Once content has been given, what came before a fault in the same read is given first, and the fault
        raised with the next call: the client misses nothing. Before, the fault alone: another try is free.
        """
        frame = self._ready
        if frame is not None and (text := frame.text(data)) is not None:
            return [self._kind(text)] if text else []
        return self._read(data)

    def finish(self) -> list[Event]:
        """The body has ended. Raises UpstreamCut if the answer is not whole."""
        if self.fault is not None:
            raise self.fault
        out: list[Event] = []
        if self._done:
            return out
        self._ready = None
        self._rest(out)
        if not self._done:
            if not self._started:
                raise UpstreamProtocolError(f"{self._backend} answered with an empty stream")
            if not self.complete:
                raise UpstreamCut(f"{self._backend} ended its stream before the answer was complete")
            self._end(out)
        return out

    def whole(self, body: bytes) -> list[Event]:
        """A body that is one answer. Raises UpstreamAnswered, UpstreamProtocolError when it is not."""
        answer = events.parse_whole(body, self._backend)
        if isinstance(answer, dict) and events.is_error(answer):
            raise stream_error(answer, self._backend, self._blot)
        choices = answer.get("choices") if isinstance(answer, dict) else None
        choice = choices[0] if isinstance(choices, list) and choices else None
        out: list[Event] = [Start()]
        if not isinstance(choice, dict) or not self._whole(choice, out):
            raise UpstreamProtocolError(f"{self._backend} answered with JSON that is no answer")
        if isinstance(usage := answer.get("usage"), dict):
            take_usage(self.usage, usage)
        self._ended(choice, choice.get("finish_reason") or "stop")
        self._end(out)
        return out

    def _read(self, data: bytes) -> list[Event]:
        if self.fault is not None:
            raise self.fault
        out: list[Event] = []
        if self._done:
            return out  # whatever follows the end is not part of the answer
        delivered = self.committed
        self._ready = None
        try:
            block = self._held.feed(data)
            for event in events.split(block) if block else ():
                self._event(event, out)
                if self._done:
                    return out
        except UpstreamError as error:
            self.fault = error
            if not (delivered and out):
                raise
            return out
        if not self._held.size:
            self._ready = self._frame
        return out

    def _rest(self, out: list[Event]) -> None:
        """What stood at the end without an empty line: servers forget it after `[DONE]`, and errors come as
        bare JSON.
        """
        text = self._held.take().strip()
        if not text:
            return
        if text.startswith(b"{"):
            value = events.parse(text, self._backend)
            if events.is_bare_error(value):
                raise stream_error(value, self._backend, self._blot)
            raise UpstreamProtocolError(
                f"{self._backend} answered with JSON where an event stream was asked for"
            )
        try:
            self._event(text + b"\n\n", out)
        except UpstreamProtocolError:
            if not self._started:
                raise
            raise UpstreamCut(f"{self._backend} ended its stream in the middle of an event") from None

    def _event(self, event: bytes, out: list[Event]) -> None:
        payload = events.data_of(event)
        if payload is None:
            return
        if payload.strip() == events.DONE:
            if not self._started:
                raise UpstreamProtocolError(f"{self._backend} answered with an empty stream")
            self._end(out)
            return
        chunk = events.parse(payload, self._backend)
        if events.is_error(chunk):
            raise stream_error(chunk, self._backend, self._blot)
        if isinstance(choices := chunk.get("choices"), list):
            before = len(out)
            for choice in choices:
                self._note(choice, out)
            if len(out) == before + 1 and len(choices) == 1:
                self._learn(event, out[-1])
        if isinstance(usage := chunk.get("usage"), dict):
            take_usage(self.usage, usage)

    def _note(self, choice: Any, out: list[Event]) -> None:
        if not isinstance(choice, dict):
            raise UpstreamProtocolError(f"{self._backend} sent a choice that is not an object")
        if choice.get("index") not in (0, None):
            return
        if not self._started:
            self._started = True
            out.append(Start())
        self._choice(choice, out)
        if isinstance(usage := choice.get("usage"), dict):  # where Moonshot puts it
            take_usage(self.usage, usage)
        if (reason := choice.get("finish_reason")) is not None:
            self._ended(choice, reason)

    def _learn(self, event: bytes, said: Event) -> None:
        """Makes a frame of an event that was nothing but a piece of text."""
        if type(said) is TextDelta and not said.logprobs:
            kind: type[TextDelta] | type[ReasoningDelta] = TextDelta
        elif type(said) is ReasoningDelta:
            kind = ReasoningDelta
        else:
            return
        if self._learned < FRAMES and self._reason is None:
            self._learned += 1
            frame = learn(event, len(event) - event.find(b"\n"), bytes)
            if frame is not None and (frame.member in REASONING) == (kind is ReasoningDelta):
                self._frame, self._kind = frame, kind

    # --- the end

    def _ended(self, choice: dict[str, Any], reason: Any) -> None:
        if not isinstance(reason, str):
            raise UpstreamProtocolError(f"{self._backend} sent a finish_reason that is not a string")
        if reason in BROKEN:
            raise UpstreamCut(f"{self._backend} broke off its answer: {reason}")
        self._reason = reason
        if isinstance(stop := choice.get("stop_reason"), str):  # vLLM; of a token it is a number
            self._stop = stop
        self.complete = True

    def _end(self, out: list[Event]) -> None:
        """Finish reason and figures, once."""
        reason = self._finish(self._reason or "stop", out)
        out.append(Finish(reason, self._stop if reason == "stop" else None))
        if self.usage.known:
            out.append(UsageEvent(self.usage))
        self.complete = self._done = True
        self._ready = None
        self._held.take()

    # --- content

    def _text(self, text: str, tokens: tuple[TokenLogprob, ...], out: list[Event]) -> None:
        if text:
            self.committed = True
        if text or tokens:
            out.append(TextDelta(text, tokens))
