"""Ollama's answers to neutral events: lines of JSON as they stream in, or one object.

A whole answer has the shape of a line, so both go the same way. The end of an answer is the line with `done:
true`, and nothing else: a body that ends without it was cut, however cleanly the connection closed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ghostllm import jsonx
from ghostllm.api import forced_call
from ghostllm.api.canonical import (
    Event,
    Finish,
    FinishReason,
    ReasoningDelta,
    Start,
    TextDelta,
    TokenLogprob,
    ToolCallDelta,
    UsageEvent,
)
from ghostllm.api.ollama import failures
from ghostllm.api.ollama.request_writer import OllamaRequest
from ghostllm.errors import GhostError, UpstreamAnswered, UpstreamCut, UpstreamProtocolError
from ghostllm.message import Usage


class Malformed(ValueError):
    """What a backend sent is not Ollama's. The message is what it sent, to be put after "sent"."""


class Lines:
    """Splits bytes into lines, whatever the reads were; so a character cut in two is whole before it is
    decoded.

    pending: bytes of the line that has begun. Not bounded here: the reader looks at every line's size.
    """

    __slots__ = ("_parts", "pending")

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self.pending = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that `data` completes, without their ends."""
        *lines, rest = data.split(b"\n")
        if lines and self._parts:
            lines[0] = b"".join((*self._parts, lines[0]))
            self._parts = []
            self.pending = 0
        if rest:
            self._parts.append(rest)
            self.pending += len(rest)
        return lines

    def rest(self) -> bytes:
        return b"".join(self._parts)


class AnswerReader:
    """Reads the answer to one chat or generate request.

    mint: makes the id of a tool call that came without one. limit: bytes that a line of a stream may have.
    label: how errors name the backend. committed: content has come by. complete: the done line has.
    """

    __slots__ = ("_calls", "_constrained", "_label", "_limit", "_lines", "_mint", "_request",
                 "_said", "_started", "committed", "complete", "fault", "usage")  # fmt: skip

    def __init__(
        self, request: OllamaRequest, mint: Callable[[], str], limit: int, label: str = "the backend"
    ) -> None:
        self.usage = Usage()
        self.committed = False
        self.complete = False
        self._request = request
        self._mint = mint
        self._limit = limit
        self._label = label
        self._lines = Lines()
        self._calls = 0
        self._constrained: list[str] = []  # the JSON of a forced call, so far
        self._said = False  # anything at all: text, thinking, a call
        self._started = False
        self.fault: GhostError | None = None

    def feed(self, data: bytes) -> list[Event]:
        """Raises UpstreamAnswered for an error line, UpstreamProtocolError for anything that is not Ollama's.

        Once content has been given, what came before a fault in the same read is given first, and the fault
        raised with the next call: the client misses nothing. Before, the fault alone: another try is free.
        """
        events: list[Event] = []
        if self.fault is not None:
            raise self.fault
        if self.complete:
            return events  # whatever follows the end is not part of the answer
        delivered = self.committed
        try:
            for line in self._lines.feed(data):
                self._bound(len(line))
                self._line(line, events)
            self._bound(self._lines.pending)
        except (GhostError, Malformed) as error:
            self.fault = self._told(error)
            if not (delivered and events):
                raise self.fault from None
        return events

    def finish(self) -> list[Event]:
        """The body has ended. Raises UpstreamCut when no done line has come."""
        if self.fault is not None:
            raise self.fault
        events = self._last(self._lines.rest())  # a last line may lack its end
        if not self.complete:
            raise UpstreamCut(f"{self._label} ended its answer before it was done")
        return events

    def whole(self, body: bytes) -> list[Event]:
        """A body that is one answer. Raises UpstreamProtocolError when it is not."""
        events = self._last(body)
        if not self.complete:
            raise UpstreamProtocolError(f"{self._label} sent an answer that is not finished")
        return events

    def _last(self, line: bytes) -> list[Event]:
        events: list[Event] = []
        try:
            self._line(line, events)
        except Malformed as error:
            raise self._told(error) from None
        return events

    def _told(self, error: GhostError | Malformed) -> GhostError:
        return UpstreamProtocolError(f"{self._label} sent {error}") if isinstance(error, Malformed) else error

    def _bound(self, size: int) -> None:
        if size > self._limit:
            raise Malformed(f"a line of more than {self._limit} bytes")

    def _line(self, line: bytes, events: list[Event]) -> None:
        if self.complete or not line or line.isspace():
            return
        try:
            value = jsonx.loads(line)
        except jsonx.DecodeError as error:
            raise Malformed(f"a line that is not JSON: {error}") from None
        if not isinstance(value, dict):
            raise Malformed("a line that is not an object")
        if "error" in value:
            raise failures.inside(value["error"])
        message = value.get("message")
        if message is None:
            message = {"content": value.get("response"), "thinking": value.get("thinking")}
        elif not isinstance(message, dict):
            raise Malformed("a message that is not an object")
        if not self._started:
            self._started = True
            events.append(Start())
            if self._request.echo:
                events.append(TextDelta(self._request.echo))
        self._message(message, value.get("logprobs"), events)
        if value.get("done") is True:
            self._done(value, events)

    def _message(self, message: dict[str, Any], logprobs: Any, events: list[Event]) -> None:
        thinking = message.get("thinking")
        if thinking:
            self.committed = self._said = True
            events.append(ReasoningDelta(_text(thinking)))
        text = message.get("content")
        if text or (logprobs and not thinking):  # tokens of the thinking are not those of the content
            text = _text(text or "")
            self._said = self._said or bool(text)
            if self._request.forced:
                self._constrained.append(text)
            else:
                self.committed = self.committed or bool(text)
                events.append(TextDelta(text, _logprobs(logprobs) if logprobs else ()))
        calls = message.get("tool_calls")
        if calls:
            if not isinstance(calls, list):
                raise Malformed("tool_calls that are not a list")
            for call in calls:
                self._call(call, events)

    def _call(self, call: Any, events: list[Event]) -> None:
        """Numbered by ourselves: Ollama's `index` starts over with every line in some versions."""
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(name := function.get("name"), str) or not name:
            raise Malformed("a tool call without a function's name")
        arguments = function.get("arguments")
        self._emit_call(name, {} if arguments is None else arguments, call.get("id"), events)

    def _emit_call(self, name: str, arguments: Any, identity: Any, events: list[Event]) -> None:
        self.committed = self._said = True
        if self._calls and self._request.single:
            return  # parallel_tool_calls: false; the model cannot be told, so its first call counts
        text = arguments if isinstance(arguments, str) else jsonx.dumps(arguments).decode()
        identity = identity if isinstance(identity, str) and identity else self._mint()
        events.append(ToolCallDelta(self._calls, text, identity, name))
        self._calls += 1

    def _done(self, value: dict[str, Any], events: list[Event]) -> None:
        reason = value.get("done_reason") or "stop"
        self.usage.prompt = _count(value, "prompt_eval_count")
        self.usage.completion = _count(value, "eval_count")
        if reason in ("load", "unload"):
            raise Malformed(f"an answer with nothing in it: the model was asked to {reason}")
        if self._request.forced:
            self._forced_call(reason, events)
        self._refuse_nothing(reason)
        finish: FinishReason = "length" if reason == "length" else "stop"
        events.append(Finish("tool_calls" if self._calls else finish))
        events.append(UsageEvent(self.usage))
        self.complete = True

    def _forced_call(self, reason: str, events: list[Event]) -> None:
        text = "".join(self._constrained)
        try:
            call = forced_call.read(text, self._request.forced, cut=reason == "length")
        except forced_call.NoCall as error:
            raise Malformed(error) from None
        if call is not None:
            self._emit_call(*call, None, events)
        elif text:
            self.committed = True
            events.append(TextDelta(text))

    def _refuse_nothing(self, reason: str) -> None:
        """An answer of nothing is a failure, unless the model's first token was its end.

        With tools it never is right: it is what Ollama sends when it could not read the call the model wrote.
        """
        if self._said:
            return
        if self.usage.completion == 0 and reason == "length":
            raise UpstreamAnswered(
                "the prompt leaves no room in the model's context for an answer",
                upstream_status=200,
                status=400,
                code="context_length_exceeded",
                retryable=False,
            )
        if not self.usage.completion or self._request.offered:
            raise Malformed("an answer with nothing in it")


def read_embeddings(body: bytes, expected: int, dimensions: int | None, usage: Usage) -> list[list[float]]:
    """The vectors of an `/api/embed` answer, one for each of `expected` inputs; fills `usage`.

    Raises Malformed for anything else, UpstreamAnswered when the model cannot give that many dimensions.
    """
    try:
        value = jsonx.loads(body)
    except jsonx.DecodeError as error:
        raise Malformed(f"what is not JSON: {error}") from None
    vectors = value.get("embeddings") if isinstance(value, dict) else None
    if not isinstance(vectors, list) or len(vectors) != expected:
        raise Malformed(f"something else than the {expected} embeddings that were asked for")
    for vector in vectors:
        if not isinstance(vector, list) or not vector or not all(map(_is_number, vector)):
            raise Malformed("an embedding that is not a list of numbers")
        if dimensions is not None and len(vector) != dimensions:
            raise UpstreamAnswered(
                f"the model's embeddings have {len(vector)} dimensions",
                upstream_status=200,
                status=400,
                code="unsupported_value",
                retryable=False,
                param="dimensions",
            )
    usage.prompt = _count(value, "prompt_eval_count")
    return vectors


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    raise Malformed("a text that is not a string")


def _count(value: dict[str, Any], name: str) -> int:
    """Ollama leaves out what is zero."""
    count = value.get(name)
    return count if isinstance(count, int) and count > 0 else 0


def _logprobs(values: Any) -> tuple[TokenLogprob, ...]:
    if not isinstance(values, list):
        raise Malformed("logprobs that are not a list")
    return tuple(_logprob(value) for value in values)


def _logprob(value: Any) -> TokenLogprob:
    if not isinstance(value, dict):
        raise Malformed("a logprob that is not an object")
    token, logprob, octets = value.get("token"), value.get("logprob"), value.get("bytes")
    if not isinstance(token, str) or not isinstance(logprob, int | float):
        raise Malformed("a logprob without its token")
    return TokenLogprob(
        token,
        logprob,
        tuple(octets) if isinstance(octets, list) else tuple(token.encode("utf-8", "replace")),
        _logprobs(value["top_logprobs"]) if value.get("top_logprobs") else (),
    )
