"""Neutral events to Anthropic's answers: messages as server-sent events and as whole bodies.

A message is a row of blocks, one open at a time, numbered from 0. So what comes while a tool call is not
complete waits behind it: the fragments of another call, or text. Reasons and figures come last in this
dialect; they are kept until the stream is over.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from ghostllm import jsonx
from ghostllm.api.anthropic.call_block import CallBlock
from ghostllm.api.anthropic.errors import error_event
from ghostllm.api.anthropic.message_body import (
    NAMELESS,
    call_id,
    known_usage,
    opening_message,
    stop_reason,
    stop_sequence,
    whole_message,
)
from ghostllm.api.anthropic.message_reader import OWN_SIGNATURE
from ghostllm.api.canonical import (
    Answer,
    Event,
    Finish,
    ReasoningDelta,
    RefusalDelta,
    Start,
    TextDelta,
    ToolCallDelta,
    UsageEvent,
)
from ghostllm.errors import GhostError
from ghostllm.message import Usage

_START, _DELTA, _STOP = "content_block_start", "content_block_delta", "content_block_stop"
_CLOSE = b"}}\n\n"

MEMBERS = {"text": "text", "thinking": "thinking", "tool_use": "partial_json"}
"""Where the deltas of a block have their text."""


class MessagesWriter:
    """Writes one message. identity: its id. model: the name the client used."""

    __slots__ = (
        "_calls", "_finish", "_head", "_identity", "_index", "_kind", "_model", "_open", "_queue", "_refused",
        "_started", "_usage",
    )  # fmt: skip

    def __init__(self, identity: str, model: str) -> None:
        self._identity = identity
        self._model = model
        self._started = False
        self._index = 0  # of the block that is open, or of the next one
        self._kind = ""  # of the open block; "": none is
        self._open = b""  # a delta of the open block up to its text
        self._calls: dict[int, CallBlock] = {}  # by neutral index
        self._head: CallBlock | None = None  # whose turn it is
        self._queue: deque[CallBlock | Event] = deque()  # what waits for the head, if there is one
        self._refused = False
        self._finish: Finish | None = None
        self._usage = Usage()

    def __repr__(self) -> str:
        return f"<MessagesWriter {self._identity} block {self._index} {self._kind or 'closed'}>"

    # --- streams

    def event(self, event: Event) -> bytes:
        """The dialect's events; b"" for what has to wait."""
        if type(event) is TextDelta and self._kind == "text" and event.text:  # all but every event
            return self._open + jsonx.dumps(event.text) + _CLOSE
        return self._rare(event)

    def end(self) -> bytes:
        """Ends what is open, and the message. Calls that lack an id or a name get one."""
        out: list[bytes] = []
        self._begin(out)
        self._drain(out, force=True)
        self._leave(out)
        delta = {"stop_reason": self._stop_reason(), "stop_sequence": stop_sequence(self._finish)}
        out.append(_event("message_delta", delta=delta, usage=known_usage(self._usage)))
        out.append(_event("message_stop"))
        return b"".join(out)

    def error(self, error: GhostError) -> bytes:
        return error_event(error)

    def go_on(self, index: int, kind: str, call: ToolCallDelta | None = None) -> None:
        """Stands where the stream of another hand stopped: `message_start` is out, and block `index` is open,
        or where kind is "" it is the next. call: of an open tool_use, what has been told of it. Thinking
        whose signature is out is of the kind "signed".
        """
        self._started = True
        self._index = index
        self._kind = kind
        if kind in MEMBERS:
            self._hear(MEMBERS[kind])
        if call is not None:
            head = self._head = self._calls[call.index] = CallBlock(call.custom)
            head.take(call)
            head.opened, head.begun = True, bool(head.taken())

    def _rare(self, event: Event) -> bytes:
        if isinstance(event, Finish):
            self._finish = event
            return b""
        if isinstance(event, UsageEvent):
            self._usage = event.usage
            return b""
        out: list[bytes] = []
        self._begin(out)
        if isinstance(event, ToolCallDelta):
            self._fragment(event, out)
        elif _says_something(event):
            if self._is_blocked(out):
                self._queue.append(event)
            else:
                self._say(event, out)
        return b"".join(out)

    def _begin(self, out: list[bytes]) -> None:
        """Clients read the figures here, so they are numbers; the last event corrects them."""
        if not self._started:
            self._started = True
            message = opening_message(self._identity, self._model, self._usage)
            out.append(_event("message_start", message=message))

    def _stop_reason(self) -> str | None:
        """None when nobody said that the answer is over: it is not for the writer to claim it."""
        return stop_reason(self._finish, self._refused) if self._finish else None

    # --- blocks

    def _say(self, event: Event, out: list[bytes]) -> None:
        if isinstance(event, ReasoningDelta):
            self._think(event, out)
        elif isinstance(event, TextDelta | RefusalDelta):
            refusal = isinstance(event, RefusalDelta)
            self._refused = self._refused or refusal
            self._enter("refusal" if refusal else "text", {"type": "text", "text": ""}, "text", out)
            out.append(self._open + jsonx.dumps(event.text) + _CLOSE)

    def _think(self, event: ReasoningDelta, out: list[bytes]) -> None:
        """A signature ends its block. Sealed thinking is a block by itself."""
        if event.redacted:
            self._leave(out)
        if event.text or event.signature:
            block = {"type": "thinking", "thinking": "", "signature": ""}
            self._enter("thinking", block, "thinking", out)
            if event.text:
                out.append(self._open + jsonx.dumps(event.text) + _CLOSE)
        if event.signature or event.redacted:
            self._leave(out, event.signature)
        if event.redacted:
            block = {"type": "redacted_thinking", "data": event.redacted}
            out.append(_event(_START, index=self._index, content_block=block))
            self._kind = "redacted_thinking"
            self._leave(out)

    def _enter(self, kind: str, block: dict[str, Any], member: str, out: list[bytes]) -> None:
        """Begins a block of this kind unless one is open. member: where its deltas have their text."""
        if self._kind == kind:
            return
        self._leave(out)
        out.append(_event(_START, index=self._index, content_block=block))
        self._kind = kind
        self._hear(member)

    def _hear(self, member: str) -> None:
        """Deltas of this kind follow."""
        delta = "input_json_delta" if member == "partial_json" else f"{member}_delta"
        frame = _event(_DELTA, index=self._index, delta={"type": delta, member: ""})
        self._open = frame[: -len(_CLOSE) - 2]

    def _leave(self, out: list[bytes], signature: str = "") -> None:
        """Ends the open block, if there is one. Thinking without a signature gets the gateway's own."""
        if not self._kind:
            return
        if self._kind == "thinking":
            delta = {"type": "signature_delta", "signature": signature or OWN_SIGNATURE}
            out.append(_event(_DELTA, index=self._index, delta=delta))
        out.append(_event(_STOP, index=self._index))
        self._index += 1
        self._kind = ""

    # --- tool calls

    def _fragment(self, event: ToolCallDelta, out: list[bytes]) -> None:
        call = self._calls.get(event.index)
        if call is None:
            call = self._calls[event.index] = CallBlock(event.custom)
            if self._is_blocked(out):
                self._queue.append(call)
            else:
                self._leave(out)
                self._head = call
        call.take(event)
        if call is self._head:
            self._write(call, out)
            if self._queue:
                self._drain(out)

    def _is_blocked(self, out: list[bytes]) -> bool:
        """Whether a call has to be completed first. One that is complete is ended."""
        if self._head is not None and self._head.whole:
            self._close(self._head, out)
        return self._head is not None

    def _drain(self, out: list[bytes], *, force: bool = False) -> None:
        """Ends the head if it is complete, and gives what waited, up to a call that is not. force: all."""
        while self._head is not None and (force or self._head.whole):
            self._close(self._head, out)
            while self._queue and self._head is None:
                item = self._queue.popleft()
                if isinstance(item, CallBlock):
                    self._leave(out)
                    self._head = item
                    self._write(item, out)
                else:
                    self._say(item, out)

    def _write(self, call: CallBlock, out: list[bytes], *, force: bool = False) -> None:
        """What is there of the call. It can begin when id and name are known. force: without them, too."""
        if not call.opened:
            if not (call.id and call.name) and not force:
                return
            call.opened = True
            identity = call.id or call_id(self._identity, self._index)
            block = {"type": "tool_use", "id": identity, "name": call.name or NAMELESS, "input": {}}
            self._enter("tool_use", block, "partial_json", out)
        text = call.taken()
        if call.custom:
            text = ("" if call.begun else '{"input":"') + jsonx.dumps(text).decode()[1:-1]
        elif not call.begun:
            text = text.lstrip()
        if text:
            call.begun = True
            out.append(self._open + jsonx.dumps(text) + _CLOSE)

    def _close(self, call: CallBlock, out: list[bytes]) -> None:
        self._write(call, out, force=True)
        if call.custom or not call.begun:
            out.append(self._open + jsonx.dumps('"}' if call.custom else "{}") + _CLOSE)
        self._leave(out)
        call.over = True
        self._head = None

    # --- whole answers

    def whole(self, answer: Answer) -> bytes:
        return jsonx.dumps(whole_message(self._identity, self._model, answer))


def _event(name: str, **members: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), jsonx.dumps({"type": name, **members}))


def _says_something(event: Event) -> bool:
    if isinstance(event, TextDelta | RefusalDelta):
        return bool(event.text)
    if isinstance(event, ReasoningDelta):
        return bool(event.text or event.signature or event.redacted)
    return not isinstance(event, Start)
