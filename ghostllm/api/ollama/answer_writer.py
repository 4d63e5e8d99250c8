"""Neutral events to Ollama's answers: lines of JSON as they stream, and whole bodies; embeddings.

A line differs from the next one in its text alone, so everything around it is made once per answer. Tool
calls go out whole, since their arguments are objects here and half an object is none. The last line waits for
the counts, which other dialects tell after their end.

Durations are told where the call says how long it has taken (`Call.elapsed`), and left out where nobody
knows: Ollama's own clients declare them optional, and an invented one would become somebody's tokens per
second. `created_at` is the second in which the answer began, in every line.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ghostllm import jsonx
from ghostllm.api.canonical import (
    Answer,
    Event,
    Finish,
    Reasoning,
    ReasoningDelta,
    Refusal,
    RefusalDelta,
    Start,
    Text,
    TextDelta,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
    UsageEvent,
)
from ghostllm.api.ollama.errors import error_line
from ghostllm.api.ollama.times import stamp
from ghostllm.errors import GhostError
from ghostllm.message import Usage

REASONS = {"stop": "stop", "length": "length", "tool_calls": "stop", "pause": "stop"}
"""`done_reason`. Ollama has no filter: the word for that stays, so that what was cut does not seem whole."""

INVALID_JSON = "INVALID_JSON"
"""The member that holds arguments which are no object, as they came: clients parse an object or nothing."""


Elapsed = Callable[[], float]
"""Gives the seconds that a call has taken so far."""


class LineWriter:
    """Writes the answer to one chat or generate request. created: seconds since 1970. chat: in the form of
    `/api/chat`, otherwise of `/api/generate`. calls: how many have been told in the lines before.
    """

    __slots__ = (
        "_calls", "_chat", "_close", "_elapsed", "_finish", "_first", "_frame", "_number", "_open", "_usage",
    )  # fmt: skip

    def __init__(
        self, model: str, created: int, *, chat: bool, elapsed: Elapsed | None = None, calls: int = 0
    ) -> None:
        self._chat = chat
        self._number = calls  # of the next call
        self._elapsed = elapsed
        self._frame = {"model": model, "created_at": stamp(created)}
        opening = jsonx.dumps(self._frame)[:-1]
        if chat:
            self._open = opening + b',"message":{"role":"assistant","content":'
            self._close = b'},"done":false}\n'
        else:
            self._open = opening + b',"response":'
            self._close = b',"done":false}\n'
        self._calls: dict[int, _Call] = {}
        self._finish: Finish | None = None
        self._usage = Usage()
        self._first: float | None = None  # when the first content came, if anybody knows

    def event(self, event: Event) -> bytes:
        """The line of an event; b"" where Ollama has none."""
        if type(event) is TextDelta and not event.logprobs and self._first is not None:  # nearly all are
            return self._open + jsonx.dumps(event.text) + self._close if event.text else b""
        return self._rare(event)

    def _rare(self, event: Event) -> bytes:
        if isinstance(event, Start):
            return b""
        if isinstance(event, Finish):
            self._finish = event
            calls = [call.member(index) for index, call in enumerate(self._calls.values(), self._number)]
            return b"".join(self._line("", tool_calls=[call]) for call in calls)
        if isinstance(event, UsageEvent):
            self._usage = event.usage
            return b""
        if self._first is None:
            self._first = self._elapsed() if self._elapsed else 0.0
        if isinstance(event, ToolCallDelta):
            self._calls.setdefault(event.index, _Call()).take(event)
            return b""
        if isinstance(event, ReasoningDelta):
            return self._line("", thinking=event.text) if event.text else b""
        if isinstance(event, RefusalDelta):
            return self._line(event.text) if event.text else b""
        if not event.logprobs:
            return self._line(event.text) if event.text else b""
        return self._line(event.text, logprobs=event.logprobs)

    def end(self) -> bytes:
        """The line with `done`."""
        if self._finish is None:
            return b""
        durations = _durations(self._elapsed() if self._elapsed else None, self._first)
        return jsonx.dumps(self._done("", self._finish, self._usage, durations)) + b"\n"

    def error(self, error: GhostError) -> bytes:
        return error_line(error)

    def whole(self, answer: Answer) -> bytes:
        text = "".join(part.text for part in answer.parts if isinstance(part, Text | Refusal))
        thinking = "".join(part.text for part in answer.parts if isinstance(part, Reasoning))
        calls = [part for part in answer.parts if isinstance(part, ToolCall)]
        members = [_call_member(call, index) for index, call in enumerate(calls)]
        durations = _durations(self._elapsed() if self._elapsed else None, None)
        return jsonx.dumps(
            self._done(text, answer.finish, answer.usage, durations, thinking, members, answer.logprobs)
        )

    def _done(
        self,
        text: str,
        finish: Finish,
        usage: Usage,
        durations: dict[str, int],
        thinking: str = "",
        calls: Sequence[dict[str, Any]] = (),
        logprobs: Sequence[TokenLogprob] = (),
    ) -> dict[str, Any]:
        """Ollama leaves out what is zero. The order of the members is its own."""
        reason = REASONS.get(finish.reason, finish.reason)
        said = self._said(text, thinking, calls)
        line: dict[str, Any] = {**self._frame, **said, "done": True, "done_reason": reason}
        if logprobs:
            line["logprobs"] = [_logprob(token) for token in logprobs]
        figures = {
            "total_duration": durations.get("total_duration"),
            "prompt_eval_count": usage.prompt,
            "prompt_eval_duration": durations.get("prompt_eval_duration"),
            "eval_count": usage.completion,
            "eval_duration": durations.get("eval_duration"),
        }
        line.update((name, value) for name, value in figures.items() if value)
        return line

    def _line(
        self,
        text: str,
        *,
        thinking: str = "",
        tool_calls: Sequence[dict[str, Any]] = (),
        logprobs: Sequence[TokenLogprob] = (),
    ) -> bytes:
        line: dict[str, Any] = {**self._frame, **self._said(text, thinking, tool_calls), "done": False}
        if logprobs:
            line["logprobs"] = [_logprob(token) for token in logprobs]
        return jsonx.dumps(line) + b"\n"

    def _said(self, text: str, thinking: str, calls: Sequence[dict[str, Any]]) -> dict[str, Any]:
        said: dict[str, Any] = {"role": "assistant", "content": text} if self._chat else {"response": text}
        if thinking:
            said["thinking"] = thinking
        if calls:
            said["tool_calls"] = list(calls)
        return {"message": said} if self._chat else said


def embeddings_body(
    model: str, vectors: Sequence[Sequence[float]], usage: Usage, elapsed: Elapsed | None
) -> bytes:
    """The answer to `/api/embed`."""
    body: dict[str, Any] = {"model": model, "embeddings": vectors}
    body.update(_durations(elapsed() if elapsed else None, None))
    if usage.prompt:
        body["prompt_eval_count"] = usage.prompt
    return jsonx.dumps(body)


def embedding_body(vectors: Sequence[Sequence[float]]) -> bytes:
    """The answer to `/api/embeddings`, which is about one text."""
    return jsonx.dumps({"embedding": vectors[0] if vectors else []})


def empty_answer(model: str, created: int, reason: str, *, chat: bool) -> bytes:
    """What Ollama says when it was asked for nothing but to have a model in memory, or out of it."""
    said: dict[str, Any] = {"message": {"role": "assistant", "content": ""}} if chat else {"response": ""}
    frame = {"model": model, "created_at": stamp(created)}
    return jsonx.dumps({**frame, **said, "done": True, "done_reason": reason})


class _Call:
    """A tool call in the making."""

    __slots__ = ("custom", "fragments", "id", "name")

    def __init__(self) -> None:
        self.id = self.name = ""
        self.custom = False
        self.fragments: list[str] = []

    def take(self, event: ToolCallDelta) -> None:
        self.id = self.id or event.id
        self.name = self.name or event.name
        self.custom = self.custom or event.custom
        self.fragments.append(event.arguments)

    def member(self, index: int) -> dict[str, Any]:
        return _call_member(ToolCall(self.id, self.name, "".join(self.fragments), self.custom), index)


def _call_member(call: ToolCall, index: int) -> dict[str, Any]:
    function = {"index": index, "name": call.name, "arguments": _arguments(call)}
    return {"id": call.id, "function": function} if call.id else {"function": function}


def _arguments(call: ToolCall) -> dict[str, Any]:
    """What is nested deeper than JSON is written here counts as no object."""
    if call.custom:
        return {"input": call.arguments}
    if not call.arguments.strip():
        return {}
    try:
        value = jsonx.loads(call.arguments)
        jsonx.dumps(value)
    except (TypeError, ValueError, RecursionError):
        value = None
    return value if isinstance(value, dict) else {INVALID_JSON: call.arguments}


def _logprob(token: TokenLogprob) -> dict[str, Any]:
    member: dict[str, Any] = {"token": token.token, "logprob": token.logprob}
    if token.bytes:
        member["bytes"] = list(token.bytes)
    if token.top:
        member["top_logprobs"] = [_logprob(other) for other in token.top]
    return member


def _durations(total: float | None, first: float | None) -> dict[str, int]:
    """In nanoseconds. total: seconds until now. first: seconds until the first content, which is when the
    prompt was read.
    """
    if total is None:
        return {}
    durations = {"total_duration": _nanoseconds(total)}
    if first is not None:
        durations["prompt_eval_duration"] = _nanoseconds(first)
        durations["eval_duration"] = _nanoseconds(total - first)
    return durations


def _nanoseconds(seconds: float) -> int:
    return max(0, round(seconds * 1e9))
