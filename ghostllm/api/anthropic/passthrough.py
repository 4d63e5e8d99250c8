"""Answers of a backend that speaks Anthropic's dialect, for clients that speak it too: the bytes go through,
and what passes is understood.

All but a few events of an answer are one piece of text, thinking or arguments inside an event that says
nothing else. A pattern tells them from the rest: it spells out the whole event, with a sound JSON string
where the text is and nothing else that can vary, so that what fits it needs no parser. Whatever does not fit
is taken apart, event by event.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from ghostllm.api.anthropic.errors import error_event
from ghostllm.api.anthropic.failures import parse_message, refuse_bare, stream_error
from ghostllm.api.anthropic.usage import take_usage
from ghostllm.api.openai import events
from ghostllm.api.splice import edit, find
from ghostllm.errors import GhostError, RequestError, UpstreamCut, UpstreamError, UpstreamProtocolError
from ghostllm.message import Call, Usage

STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'

STRING = (
    rb'"[^"\\\x00-\x1f]*+'
    rb'(?:\\(?:["\\/bfnrt]|u(?:[0-9a-ce-fA-CE-F][0-9a-fA-F]|[dD][0-7])[0-9a-fA-F]{2})[^"\\\x00-\x1f]*+)*+"'
)
"""A JSON string without surrogates, which are sound in pairs only: those are left to the parser."""

_TOKENS = re.compile(
    rb"(?:event: content_block_delta\n"
    rb'data: \{"type": ?"content_block_delta", ?"index": ?(?:0|[1-9][0-9]{0,8}), ?"delta": ?\{"type": ?'
    rb'(?:"text_delta", ?"text"|"thinking_delta", ?"thinking"|"input_json_delta", ?"partial_json"): ?'
    + STRING
    + rb" *+\} *+\}\n\n)++"  # Anthropic pads events with blanks, so that their length tells nothing
)
"""Whole events that carry a piece of content each. No group of the pattern can match in two ways."""


class MessagesPassThrough:
    """Implements ports.Answer for one call of the Anthropic door: "chat", or "count_tokens" (never a stream).

    backend: how messages name it. limit: bytes of the largest event. blot: takes secrets out of the backend's
    own messages. The model's name in the answer becomes the one that the client asked for. Every other byte
    stays.

    The answer is complete with the stop reason, as nothing but `message_stop` follows it; where that one is
    missing at a sound end of the stream, it is added, since clients wait for it.
    """

    __slots__ = (
        "_backend", "_blot", "_call", "_done", "_held", "_started", "_tokens", "committed", "complete",
        "fault", "usage",
    )  # fmt: skip

    def __init__(self, call: Call, *, backend: str, limit: int, blot: Callable[[str], str] = str) -> None:
        self.usage = Usage()
        self.committed = False
        self.complete = False
        self.fault: GhostError | None = None
        self._call = call
        self._backend = backend
        self._blot = blot
        self._held = events.Held(limit, backend)
        self._tokens: dict[str, int] = {}
        self._started = False
        self._done = False

    def __repr__(self) -> str:
        state = "done" if self._done else "complete" if self.complete else "open"
        return f"<MessagesPassThrough {self._backend} {state}>"

    # --- streams

    def feed(self, data: bytes) -> bytes:
        """The same object comes out wherever nothing has to change.

        If a piece holds sound events and then a fault, the events come out and the fault is raised by the
        next call; before the commit it is raised at once, since then another backend can still give the whole
        answer.
        """
        if (
            self.committed
            and not self.complete
            and not self._held.size
            and self.fault is None
            and _TOKENS.fullmatch(data)
            and (data.isascii() or _is_text(data))
        ):
            return data
        return self._take_apart(data)

    def finish(self) -> bytes:
        """The terminator, unless it has come. Raises UpstreamCut, or what an unfinished last event turns out
        to be.
        """
        if self.fault is not None:
            raise self.fault
        if self._done:
            return b""
        out = self._take_rest()
        if self._done:
            return out
        if not self._started:
            raise UpstreamProtocolError(f"{self._backend} answered with an empty stream")
        if self.complete:
            self._done = True
            return out + STOP
        raise UpstreamCut(f"{self._backend} ended its stream before the answer was complete")

    def broken(self, error: GhostError) -> bytes:
        return error_event(error)

    def _take_apart(self, data: bytes) -> bytes:
        if self.fault is not None:
            raise self.fault
        if self._done:
            return b""
        was_committed = self.committed
        out: list[bytes] = []
        block = b""
        try:
            block = self._held.feed(data)
            for event in events.split(block) if block else ():
                out.append(self._event(event))
                if self._done:
                    self._held.take()
                    break
        except UpstreamError as error:
            self.fault = error
            if not (was_committed and out):
                raise
        joined = b"".join(out)
        return block if joined == block else joined

    def _take_rest(self) -> bytes:
        """What stood at the end without an empty line: half an event, or an error as bare JSON."""
        text = self._held.take().strip()
        if not text:
            return b""
        if text.startswith(b"{"):
            refuse_bare(text, self._backend, self._blot)
        try:
            return self._event(text + b"\n\n")
        except UpstreamProtocolError:
            if not self._started:
                raise
            raise UpstreamCut(f"{self._backend} ended its stream in the middle of an event") from None

    def _event(self, event: bytes) -> bytes:
        """What the client gets of one event. Raises UpstreamAnswered, UpstreamProtocolError."""
        payload = events.data_of(event)
        if payload is None:
            return event
        value = events.parse(payload, self._backend)
        kind = value.get("type")
        if kind == "content_block_delta":
            self._content(value.get("delta"))
        elif kind == "content_block_start":
            self._content(value.get("content_block"))
        elif kind == "message_start":
            return self._start(event, payload, value)
        elif kind == "message_delta":
            take_usage(self.usage, self._tokens, value.get("usage"))
            delta = value.get("delta")
            self.complete = self.complete or (isinstance(delta, dict) and bool(delta.get("stop_reason")))
        elif kind == "message_stop":
            if not self._started:
                raise UpstreamProtocolError(f"{self._backend} answered with an empty stream")
            self.complete = self._done = True
        elif kind == "error" or (kind is None and events.is_bare_error(value)):
            raise stream_error(value, self._backend, self._blot)
        return event

    def _content(self, part: Any) -> None:
        """A block or a delta. It commits when it says anything beside its type."""
        if not isinstance(part, dict):
            raise UpstreamProtocolError(f"{self._backend} sent an event without its content")
        self._started = True
        if not self.committed and any(value for name, value in part.items() if name != "type"):
            self.committed = True

    def _start(self, event: bytes, payload: bytes, value: dict[str, Any]) -> bytes:
        message = value.get("message")
        if self._started or not isinstance(message, dict):
            raise UpstreamProtocolError(f"{self._backend} began a message where it cannot")
        self._started = True
        take_usage(self.usage, self._tokens, message.get("usage"))
        if not self._has_other_name(message):
            return event
        try:
            _, start, end = find(payload, value, "message")
            renamed = b"".join(edit(payload[start:end], message, {"model": self._call.model}))
        except RequestError as error:
            raise self._ambiguous(error) from None
        return events.with_data(event, payload, payload[:start] + renamed + payload[end:])

    def _has_other_name(self, message: dict[str, Any]) -> bool:
        name = message.get("model")
        return isinstance(name, str) and name != self._call.model

    def _ambiguous(self, error: RequestError) -> UpstreamProtocolError:
        return UpstreamProtocolError(f"{self._backend} answered in two meanings: {error.message}")

    # --- whole answers

    def whole(self, body: bytes) -> bytes:
        """The same object comes out unless the model's name has to change."""
        if self._call.operation == "count_tokens":
            self._counted(body)
            return body
        message = parse_message(body, self._backend, self._blot)
        take_usage(self.usage, self._tokens, message.get("usage"))
        if self._has_other_name(message):
            try:
                body = b"".join(edit(body, message, {"model": self._call.model}))
            except RequestError as error:
                raise self._ambiguous(error) from None
        self.committed = self.complete = True
        return body

    def _counted(self, body: bytes) -> None:
        """`{"input_tokens": n}`. Nothing was spent on it, so the usage stays unknown."""
        value = events.parse_whole(body, self._backend)
        if isinstance(value, dict) and type(value.get("input_tokens")) is int:
            self.committed = self.complete = True
            return
        if isinstance(value, dict) and (value.get("type") == "error" or value.get("error")):
            raise stream_error(value, self._backend, self._blot)
        raise UpstreamProtocolError(f"{self._backend} answered with JSON that is no count of tokens")


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
