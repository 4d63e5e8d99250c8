"""Neutral events to a response: as server-sent events and as a whole body."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

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
from ghostllm.api.members import Members
from ghostllm.api.responses import tools
from ghostllm.api.responses.in_order import InOrder
from ghostllm.api.responses.items import seal
from ghostllm.api.responses.output import KINDS, Kind
from ghostllm.api.responses.request_reader import shows_logprobs
from ghostllm.api.responses.response_body import INCOMPLETE, ending, failure, opening, usage_object
from ghostllm.api.responses.series import Series
from ghostllm.errors import GhostError
from ghostllm.message import Usage

_TEXT, _REFUSAL = KINDS["output_text"], KINDS["refusal"]
_FUNCTION, _CUSTOM = KINDS["function_call"], KINDS["custom_tool_call"]


class Asked(Protocol):
    """What the writer needs of the call. It leaves the response there when that is final."""

    model: str
    fields: dict[str, Any]
    store: bool
    previous: list[dict[str, Any]]
    response: dict[str, Any] | None


class ResponsesWriter:
    """Writes one response. created: seconds since 1970. mint: makes an id that begins with its argument."""

    __slots__ = (
        "_asked", "_finish", "_logprobs", "_mint", "_open_call", "_order", "_over", "_response", "_series",
        "_spaces", "_started", "_thinking", "_tokens", "_usage",
    )  # fmt: skip

    def __init__(self, asked: Asked, created: int, mint: Callable[[str], str]) -> None:
        fields = asked.fields
        self._asked = asked
        self._mint = mint
        self._response = opening(fields, asked.model, mint("resp_"), created, asked.store)
        self._logprobs = shows_logprobs(Members(fields))
        self._thinking = KINDS["summary_text" if _wants_summary(fields) else "reasoning_text"]
        self._spaces = tools.split_names(_holders(asked))
        self._order = InOrder()
        self._series = Series(mint)
        self._tokens: list[TokenLogprob] = []  # of tokens without text, until there is some
        self._open_call = -1  # neutral index of the call that is the open item
        self._started = self._over = False
        self._finish: Finish | None = None
        self._usage = Usage()

    def __repr__(self) -> str:
        return f"<ResponsesWriter {self._response['id']} {self._series!r}>"

    # --- streams

    def event(self, event: Event) -> bytes:
        """The dialect's events; b"" for what has to wait, or says nothing."""
        kind = self._series.kind  # all but every event is more of what is said already
        if type(event) is TextDelta:
            if kind is _TEXT and event.text and not event.logprobs and not self._tokens:
                return self._series.delta(event.text)
        elif type(event) is ReasoningDelta and kind is self._thinking:
            if event.text and not event.signature and not event.redacted:
                return self._series.delta(event.text)
        return self._rare(event)

    def end(self) -> bytes:
        """Ends what is open, and the response. There is no other terminator."""
        out: list[bytes] = []
        self._begin(out)
        self._close(out)
        final = self._final(ending(self._finish))
        out.append(self._series.event(f"response.{final['status']}", response=final))
        return b"".join(out)

    def error(self, error: GhostError) -> bytes:
        """`response.failed`; where no response has begun, the event `error`."""
        if self._over:
            return b""
        if not self._started:
            self._over = True
            code = error.code or "server_error"
            return self._series.event("error", code=code, message=error.message, param=error.param)
        out: list[bytes] = []
        self._series.abandon(out)
        out.append(self._series.event("response.failed", response=self._final(failure(error))))
        return b"".join(out)

    def _rare(self, event: Event) -> bytes:
        if isinstance(event, UsageEvent):
            self._usage = event.usage
            return b""
        out: list[bytes] = []
        self._begin(out)
        if isinstance(event, Finish):
            self._finish = event
            self._close(out)
        elif self._says_something(event):
            self._say(self._order.take(event), out)
            if self._order.calling and self._open_call < 0:
                self._series.leave(out)  # a call is next, though its name is not known yet
        return b"".join(out)

    def _begin(self, out: list[bytes]) -> None:
        if not self._started:
            self._started = True
            for name in ("response.created", "response.in_progress"):
                out.append(self._series.event(name, response=self._response))

    def _close(self, out: list[bytes]) -> None:
        """Nothing follows. Where the answer is cut, so are the items that have no end yet."""
        if self._finish is None or self._finish.reason in INCOMPLETE:
            self._series.status = "incomplete"
        self._say(self._order.rest(), out)
        self._leave_call()
        self._series.leave(out)
        self._series.status = "completed"

    def _final(self, changes: dict[str, Any]) -> dict[str, Any]:
        self._over = True
        usage = usage_object(self._usage)
        self._asked.response = {
            **self._response,
            "output": self._series.output,
            "usage": usage,
            **changes,
        }
        return self._asked.response

    def _says_something(self, event: Event) -> bool:
        """Logprobs of tokens without text wait for the next text: an item of nothing is none."""
        if isinstance(event, TextDelta):
            if not event.text and self._logprobs:
                self._tokens.extend(event.logprobs)
            return bool(event.text)
        if isinstance(event, RefusalDelta):
            return bool(event.text)
        if isinstance(event, ReasoningDelta):
            return bool(event.text or event.signature or event.redacted)
        return not isinstance(event, Start)

    # --- what is said

    def _say(self, events: list[Event], out: list[bytes]) -> None:
        for event in events:
            if isinstance(event, ToolCallDelta):
                self._call(event, out)
                continue
            self._leave_call()
            if isinstance(event, TextDelta):
                self._enter_message(_TEXT, out)
                self._text(event, out)
            elif isinstance(event, RefusalDelta):
                self._enter_message(_REFUSAL, out)
                out.append(self._series.delta(event.text))
            elif isinstance(event, ReasoningDelta):
                self._think(event, out)

    def _enter_message(self, kind: Kind, out: list[bytes]) -> None:
        """Text and refusal are parts of one message."""
        series = self._series
        if series.kind is kind:
            return
        if series.item is None or series.item["type"] != "message":
            message = {"type": "message", "status": "in_progress", "role": "assistant", "content": []}
            series.enter(message, out)
        series.enter_part(kind, out)

    def _text(self, event: TextDelta, out: list[bytes]) -> None:
        tokens, self._tokens = (*self._tokens, *event.logprobs), []
        if tokens and self._logprobs:
            out.append(self._series.text_with_logprobs(event.text, tokens))
        else:
            out.append(self._series.delta(event.text))

    def _think(self, event: ReasoningDelta, out: list[bytes]) -> None:
        """A signature ends its item. Sealed thinking is an item by itself."""
        kind, series = self._thinking, self._series
        if event.text or event.signature:
            if series.kind is not kind:
                series.enter({"type": "reasoning", "summary": [], **{kind.holder: []}}, out)
                series.enter_part(kind, out)
            if event.text:
                out.append(series.delta(event.text))
        if event.signature:
            self._seal(seal(event.signature, ""), out)
        if event.redacted:
            series.enter({"type": "reasoning", "summary": []}, out)
            self._seal(seal("", event.redacted), out)

    def _seal(self, sealed: str, out: list[bytes]) -> None:
        assert self._series.item is not None
        self._series.item["encrypted_content"] = sealed
        self._series.leave(out)

    def _call(self, event: ToolCallDelta, out: list[bytes]) -> None:
        if self._open_call != event.index:
            self._open_call = event.index
            kind = _CUSTOM if event.custom else _FUNCTION
            space, name = self._spaces.get(event.name, ("", event.name))
            identity = event.id or self._mint("call_")
            item = {"type": kind.type, "call_id": identity, "name": name, kind.member: ""}
            if space:
                item["namespace"] = space
            if kind is _FUNCTION:
                item["status"] = "in_progress"
            self._series.enter(item, out)
            self._series.hear(kind)
        if event.arguments:
            out.append(self._series.delta(event.arguments))

    def _leave_call(self) -> None:
        self._open_call = -1

    # --- whole answers

    def whole(self, answer: Answer) -> bytes:
        """The object with which a stream of the same answer ends."""
        self._started = True
        self._usage = answer.usage
        for event in events_of(answer):
            self.event(event)
        return jsonx.dumps(self._final(ending(self._finish)))


def events_of(answer: Answer) -> Iterator[Event]:
    """Its parts and its finish, as a stream would have given them."""
    tokens = list(answer.logprobs)[::-1]
    for index, part in enumerate(answer.parts):
        if isinstance(part, Text):
            yield TextDelta(part.text, _taken(tokens, len(part.text)))
        elif isinstance(part, Refusal):
            yield RefusalDelta(part.text)
        elif isinstance(part, Reasoning):
            yield ReasoningDelta(part.text, part.signature, part.redacted)
        elif isinstance(part, ToolCall):
            yield ToolCallDelta(index, part.arguments, part.id, part.name, part.custom)
    yield answer.finish


def _taken(tokens: list[TokenLogprob], length: int) -> tuple[TokenLogprob, ...]:
    """The tokens (last first) of a text so long: answers do not say which belong to which of their texts."""
    taken: list[TokenLogprob] = []
    while tokens and length > 0:
        taken.append(tokens.pop())
        length -= len(taken[-1].token)
    return tuple(taken)


def _wants_summary(fields: dict[str, Any]) -> bool:
    """Who asks for summaries reads thinking there, and Codex nowhere else; others get it as it is."""
    thinking = fields.get("reasoning") or {}
    asked = thinking.get("summary") or thinking.get("generate_summary")
    return bool(asked) and asked != "none"


def _holders(asked: Asked) -> Iterator[dict[str, Any]]:
    yield asked.fields
    items = asked.fields.get("input")
    for item in (*asked.previous, *(items if isinstance(items, list) else ())):
        if item.get("type") == "additional_tools":
            yield item
