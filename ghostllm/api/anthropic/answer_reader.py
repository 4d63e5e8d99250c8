"""Answers of Anthropic's dialect to neutral events: server-sent events as they stream in, or one message.

The message's end has two signs: `message_delta` with a `stop_reason`, after which no content can follow, and
`message_stop`, which adds nothing. So the answer is complete with the first of them: a stream that ends
soundly between the two lacks nothing. Finish reason and figures are kept until the stream is over, so that
nothing is shown as finished that an `error` event still follows.

Unknown events, blocks and deltas are passed over, as Anthropic asks of its clients: more of them come every
year.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ghostllm import jsonx
from ghostllm.api.anthropic.failures import parse_message, refuse_bare, stream_error
from ghostllm.api.anthropic.usage import take_usage
from ghostllm.api.canonical import (
    Event,
    Finish,
    FinishReason,
    ReasoningDelta,
    Start,
    TextDelta,
    ToolCallDelta,
    UsageEvent,
)
from ghostllm.api.openai import events
from ghostllm.errors import GhostError, UpstreamCut, UpstreamError, UpstreamProtocolError
from ghostllm.message import Usage

FINISH: dict[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "pause_turn": "pause",
    "refusal": "content_filter",
}
"""A word that is not here is some way to say that the model is done."""


class _Call:
    """A tool call in the making. input: what its block began with; fragments replace it. begun: one came."""

    __slots__ = ("begun", "input", "number")

    def __init__(self, number: int, given: Any) -> None:
        self.number = number
        self.input = given
        self.begun = False


class MessagesReader:
    """A translation.Reader of the answer to one messages request.

    backend: how errors name the server. limit: bytes of its largest event. single: at most one tool call is
    wanted, for servers that do not know `disable_parallel_tool_use`. blot: takes secrets out of the server's
    own messages.
    """

    __slots__ = (
        "_backend", "_blot", "_calls", "_done", "_held", "_numbers", "_reason", "_single", "_started",
        "_stop", "_tokens", "committed", "complete", "fault", "usage",
    )  # fmt: skip

    def __init__(
        self, *, backend: str, limit: int, single: bool = False, blot: Callable[[str], str] = str
    ) -> None:
        self.usage = Usage()
        self.committed = False
        self.complete = False
        self.fault: GhostError | None = None
        self._backend = backend
        self._blot = blot
        self._single = single
        self._held = events.Held(limit, backend)
        self._tokens: dict[str, int] = {}
        self._calls: dict[Any, _Call | None] = {}  # by the block's index; None: a block that is passed over
        self._numbers = 0  # calls that were begun
        self._started = False
        self._reason: str | None = None
        self._stop: str | None = None  # the stop sequence met
        self._done = False  # message_stop has come; finish reason and figures are out

    def __repr__(self) -> str:
        state = "done" if self._done else "complete" if self.complete else "open"
        return f"<MessagesReader {self._backend} {state}>"

    # --- streams

    def feed(self, data: bytes) -> list[Event]:
        """Raises UpstreamAnswered for an error event, UpstreamProtocolError for anything that is no event.

        Once content has been given, what came before a fault in the same read is given first, and the fault
        raised with the next call: the client misses nothing. Before, the fault alone: another try is free.
        """
        if self.fault is not None:
            raise self.fault
        out: list[Event] = []
        if self._done:
            return out  # whatever follows the end is not part of the answer
        delivered = self.committed
        try:
            block = self._held.feed(data)
            for event in events.split(block) if block else ():
                self._event(event, out)
                if self._done:
                    break
        except UpstreamError as error:
            self.fault = error
            if not (delivered and out):
                raise
        return out

    def finish(self) -> list[Event]:
        """The body has ended. Raises UpstreamCut if the answer is not whole."""
        if self.fault is not None:
            raise self.fault
        out: list[Event] = []
        if self._done:
            return out
        self._rest(out)
        if not self._done:
            if not self._started:
                raise UpstreamProtocolError(f"{self._backend} answered with an empty stream")
            if not self.complete:
                raise UpstreamCut(f"{self._backend} ended its stream before the answer was complete")
            self._end(out)
        return out

    def whole(self, body: bytes) -> list[Event]:
        """A body that is one message. Raises UpstreamAnswered, UpstreamProtocolError when it is not."""
        message = parse_message(body, self._backend, self._blot)
        out: list[Event] = []
        self._start(message, out)
        for index, block in enumerate(message["content"]):
            self._block(index, block, out)
            self._close(index, out)
        self._ended(message)
        if self._reason is None:
            raise UpstreamProtocolError(f"{self._backend} sent a message without a stop_reason")
        self._end(out)
        return out

    def _rest(self, out: list[Event]) -> None:
        """What stood at the end without an empty line: half an event, or an error as bare JSON."""
        text = self._held.take().strip()
        if not text:
            return
        if text.startswith(b"{"):
            refuse_bare(text, self._backend, self._blot)
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
        value = events.parse(payload, self._backend)
        kind = value.get("type")
        if kind == "content_block_delta":
            self._delta(value.get("index"), self._member(value, "delta"), out)
        elif kind == "content_block_start":
            self._block(value.get("index"), self._member(value, "content_block"), out)
        elif kind == "content_block_stop":
            self._close(value.get("index"), out)
        elif kind == "message_start":
            self._start(self._member(value, "message"), out)
        elif kind == "message_delta":
            self._begin(out)
            take_usage(self.usage, self._tokens, value.get("usage"))
            self._ended(self._member(value, "delta"))
        elif kind == "message_stop":
            if not self._started:
                raise UpstreamProtocolError(f"{self._backend} answered with an empty stream")
            self._end(out)
        elif kind == "error" or (kind is None and events.is_bare_error(value)):
            raise stream_error(value, self._backend, self._blot)

    def _member(self, value: dict[str, Any], name: str) -> dict[str, Any]:
        member = value.get(name)
        if not isinstance(member, dict):
            raise UpstreamProtocolError(f"{self._backend} sent a {value['type']} event without its {name}")
        return member

    # --- beginning and end

    def _begin(self, out: list[Event]) -> None:
        if not self._started:
            self._started = True
            out.append(Start())

    def _start(self, message: dict[str, Any], out: list[Event]) -> None:
        if self._started:
            raise UpstreamProtocolError(f"{self._backend} began a second message in one answer")
        self._begin(out)
        take_usage(self.usage, self._tokens, message.get("usage"))

    def _ended(self, delta: dict[str, Any]) -> None:
        reason, stop = delta.get("stop_reason"), delta.get("stop_sequence")
        if reason is None:
            return
        if not isinstance(reason, str):
            raise UpstreamProtocolError(f"{self._backend} sent a stop_reason that is not a string")
        self._reason = reason
        self._stop = stop if isinstance(stop, str) else None
        self.complete = True

    def _end(self, out: list[Event]) -> None:
        """Finish reason and figures, once."""
        for index in list(self._calls):  # a call whose block was not closed is one all the same
            self._close(index, out)
        reason = FINISH.get(self._reason or "end_turn", "stop")
        if reason in ("stop", "tool_calls"):
            reason = "tool_calls" if self._numbers else "stop"
        out.append(Finish(reason, self._stop if reason == "stop" else None))
        if self.usage.known:
            out.append(UsageEvent(self.usage))
        self.complete = self._done = True
        self._held.take()

    # --- content

    def _block(self, index: Any, block: Any, out: list[Event]) -> None:
        """A block begins. In a whole message that is all of it, in a stream there is little in it."""
        if not isinstance(block, dict):
            raise UpstreamProtocolError(f"{self._backend} sent a content block that is not an object")
        if not isinstance(index, int) or index in self._calls:
            raise UpstreamProtocolError(f"{self._backend} began content block {index!r} where it cannot be")
        self._begin(out)
        kind = block.get("type")
        if kind == "tool_use":
            self._call(index, block, out)
            return
        self._calls[index] = None
        if kind == "text":
            self._text(block.get("text"), out)
        elif kind == "thinking":
            self._thinking(block.get("thinking"), block.get("signature"), out)
        elif kind == "redacted_thinking" and (sealed := self._string(block.get("data"))):
            self.committed = True
            out.append(ReasoningDelta("", redacted=sealed))

    def _call(self, index: int, block: dict[str, Any], out: list[Event]) -> None:
        identity, name = block.get("id"), block.get("name")
        if not isinstance(identity, str) or not isinstance(name, str) or not identity or not name:
            raise UpstreamProtocolError(f"{self._backend} sent a tool call without its id and name")
        if self._numbers and self._single:
            self._calls[index] = None
            return
        self._calls[index] = _Call(self._numbers, block.get("input"))
        self.committed = True
        out.append(ToolCallDelta(self._numbers, "", identity, name))
        self._numbers += 1

    def _delta(self, index: Any, delta: dict[str, Any], out: list[Event]) -> None:
        if not isinstance(index, int) or index not in self._calls:
            raise UpstreamProtocolError(f"{self._backend} sent a part of content block {index!r}, not begun")
        kind = delta.get("type")
        if kind == "text_delta":
            self._text(delta.get("text"), out)
        elif kind == "thinking_delta":
            self._thinking(delta.get("thinking"), None, out)
        elif kind == "signature_delta":
            self._thinking(None, delta.get("signature"), out)
        elif kind == "input_json_delta":
            call, fragment = self._calls[index], self._string(delta.get("partial_json"))
            if call is not None and fragment:
                call.begun = self.committed = True
                out.append(ToolCallDelta(call.number, fragment))

    def _close(self, index: Any, out: list[Event]) -> None:
        """A call whose arguments did not come in fragments has them in its block, or has none."""
        call = self._calls.pop(index, None) if isinstance(index, int) else None
        if call is not None and not call.begun:
            given = call.input if isinstance(call.input, dict) else {}
            out.append(ToolCallDelta(call.number, jsonx.dumps(given).decode()))

    def _text(self, value: Any, out: list[Event]) -> None:
        if text := self._string(value):
            self.committed = True
            out.append(TextDelta(text))

    def _thinking(self, thought: Any, signature: Any, out: list[Event]) -> None:
        text, proof = self._string(thought), self._string(signature)
        if text or proof:
            self.committed = True
            out.append(ReasoningDelta(text, proof))

    def _string(self, value: Any) -> str:
        if value is None:
            return ""
        if isinstance(value, str):
            return value
        raise UpstreamProtocolError(f"{self._backend} sent content that is not a string")
