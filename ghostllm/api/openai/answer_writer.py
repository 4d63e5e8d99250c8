"""Neutral events to OpenAI's answers: chat and completions, as SSE chunks and as whole bodies; embeddings.

A chunk differs from the next one only in its delta, so everything around it is made once per answer and a
token costs one `dumps` of its text. Ids and times are handed in: nothing here looks at a clock.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping, Sequence
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
from ghostllm.api.openai.errors import error_event
from ghostllm.api.openai.events import LAST_EVENT
from ghostllm.api.openai.reasoning import REASONING_FIELD
from ghostllm.errors import GhostError
from ghostllm.message import Usage

"""Where thinking goes. OpenAI shows none; DeepSeek's name is the one that most clients read."""

FINISH = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "content_filter": "content_filter",
    "pause": "stop",
}


class ChatWriter:
    """Writes one choice of one chat answer. created: seconds since 1970. usage: the client asked for it in
    its stream. more: other members that all chunks have.
    """

    __slots__ = ("_close", "_frame", "_open", "_text_close", "_text_open", "_usage")

    def __init__(
        self,
        identity: str,
        model: str,
        created: int,
        *,
        usage: bool = True,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        self._usage = usage
        self._frame = {"id": identity, "object": "chat.completion", "created": created, "model": model}
        self._frame.update(more or {})
        self._open, self._close = _chunk_frame({**self._frame, "object": "chat.completion.chunk"}, usage)
        self._open += b'"delta":'
        self._text_open = self._open + b'{"content":'
        self._text_close = b'},"logprobs":null,"finish_reason":null' + self._close

    def event(self, event: Event) -> bytes:
        """The chunk of an event; b"" where OpenAI has none."""
        if type(event) is TextDelta and not event.logprobs:  # all but every event is one of these
            return self._text_open + jsonx.dumps(event.text) + self._text_close
        return self._rare(event)

    def _rare(self, event: Event) -> bytes:
        if isinstance(event, TextDelta):
            return self._chunk({"content": event.text}, logprobs=event.logprobs)
        if isinstance(event, ReasoningDelta):
            return self._chunk({REASONING_FIELD: event.text}) if event.text else b""
        if isinstance(event, ToolCallDelta):
            return self._chunk({"tool_calls": [_call_delta(event)]})
        if isinstance(event, Start):
            return self._chunk({"role": "assistant", "content": ""})
        if isinstance(event, Finish):
            return self._chunk({}, finish=FINISH[event.reason])
        if isinstance(event, RefusalDelta):
            return self._chunk({"refusal": event.text})
        usage = usage_member(event.usage)
        if not self._usage or usage is None:
            return b""
        chunk = {**self._frame, "object": "chat.completion.chunk", "choices": [], "usage": usage}
        return b"data: " + jsonx.dumps(chunk) + b"\n\n"

    def end(self) -> bytes:
        return LAST_EVENT

    def error(self, error: GhostError) -> bytes:
        return error_event(error)

    def whole(self, answer: Answer) -> bytes:
        text = [part.text for part in answer.parts if isinstance(part, Text)]
        refusal = [part.text for part in answer.parts if isinstance(part, Refusal)]
        reasoning = "".join(part.text for part in answer.parts if isinstance(part, Reasoning))
        calls = [_call(part) for part in answer.parts if isinstance(part, ToolCall)]
        message: dict[str, Any] = {
            "role": "assistant",
            "content": "".join(text) if text or not (calls or refusal) else None,
            "refusal": "".join(refusal) if refusal else None,
        }
        if reasoning:
            message[REASONING_FIELD] = reasoning
        if calls:
            message["tool_calls"] = calls
        choice = {
            "index": 0,
            "message": message,
            "logprobs": _chat_logprobs(answer.logprobs),
            "finish_reason": FINISH[answer.finish.reason],
        }
        return _body(self._frame, choice, answer.usage)

    def _chunk(
        self, delta: dict[str, Any], finish: str | None = None, logprobs: Sequence[TokenLogprob] = ()
    ) -> bytes:
        rest = b',"logprobs":%b,"finish_reason":%b' % (
            jsonx.dumps(_chat_logprobs(logprobs)),
            jsonx.dumps(finish),
        )
        return self._open + jsonx.dumps(delta) + rest + self._close


class CompletionWriter:
    """Writes a plain continuation. text_offset of logprobs counts characters from the text's beginning. more:
    as in ChatWriter.
    """

    __slots__ = ("_close", "_frame", "_offset", "_open", "_text_close", "_usage")

    def __init__(
        self,
        identity: str,
        model: str,
        created: int,
        *,
        usage: bool = True,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        self._usage = usage
        self._offset = 0
        self._frame = {"id": identity, "object": "text_completion", "created": created, "model": model}
        self._frame.update(more or {})
        self._open, self._close = _chunk_frame(self._frame, usage)
        self._open += b'"text":'
        self._text_close = b',"logprobs":null,"finish_reason":null' + self._close

    def event(self, event: Event) -> bytes:
        """The chunk of an event; b"" where completions have none: they know no roles, reasoning or tools."""
        if type(event) is TextDelta and not event.logprobs:
            return self._open + jsonx.dumps(event.text) + self._text_close
        if isinstance(event, TextDelta):
            return self._chunk(event.text, None, event.logprobs)
        if isinstance(event, Finish):
            return self._chunk("", FINISH[event.reason], ())
        if isinstance(event, UsageEvent):
            usage = usage_member(event.usage)
            if self._usage and usage is not None:
                return b"data: " + jsonx.dumps({**self._frame, "choices": [], "usage": usage}) + b"\n\n"
        return b""

    def end(self) -> bytes:
        return LAST_EVENT

    def error(self, error: GhostError) -> bytes:
        return error_event(error)

    def whole(self, answer: Answer) -> bytes:
        text = "".join(part.text for part in answer.parts if isinstance(part, Text))
        choice = {
            "text": text,
            "index": 0,
            "logprobs": self._logprobs(answer.logprobs),
            "finish_reason": FINISH[answer.finish.reason],
        }
        return _body(self._frame, choice, answer.usage)

    def _chunk(self, text: str, finish: str | None, logprobs: Sequence[TokenLogprob]) -> bytes:
        shown = jsonx.dumps(self._logprobs(logprobs))
        rest = b',"logprobs":%b,"finish_reason":%b' % (shown, jsonx.dumps(finish))
        return self._open + jsonx.dumps(text) + rest + self._close

    def _logprobs(self, tokens: Sequence[TokenLogprob]) -> dict[str, Any] | None:
        if not tokens:
            return None
        offsets = []
        for token in tokens:
            offsets.append(self._offset)
            self._offset += len(token.token)
        return {
            "tokens": [token.token for token in tokens],
            "token_logprobs": [token.logprob for token in tokens],
            "top_logprobs": [{other.token: other.logprob for other in token.top} for token in tokens],
            "text_offset": offsets,
        }


def embeddings_body(
    model: str, vectors: Sequence[Sequence[float]], usage: Usage, *, as_base64: bool
) -> bytes:
    """as_base64: little-endian float32, as the SDK decodes it; otherwise numbers, exactly as they came."""
    data = [
        {"object": "embedding", "index": index, "embedding": _packed(vector) if as_base64 else vector}
        for index, vector in enumerate(vectors)
    ]
    prompt = usage.prompt or 0
    return jsonx.dumps(
        {
            "object": "list",
            "data": data,
            "model": model,
            "usage": {"prompt_tokens": prompt, "total_tokens": prompt},
        }
    )


def usage_member(usage: Usage) -> dict[str, Any] | None:
    """OpenAI's usage object; None while a count that it cannot leave out is unknown."""
    if usage.prompt is None or usage.completion is None:
        return None
    member: dict[str, Any] = {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.prompt + usage.completion,
    }
    prompt = {"cached_tokens": usage.cached, "cache_write_tokens": usage.cache_write}
    if details := {name: count for name, count in prompt.items() if count is not None}:
        member["prompt_tokens_details"] = details
    if usage.reasoning is not None:
        member["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning}
    return member


def _chunk_frame(frame: dict[str, Any], usage: bool) -> tuple[bytes, bytes]:
    """What goes before and after the changing part of a chunk. With usage asked for, every chunk but the last
    has a null.
    """
    opening = b"data: " + jsonx.dumps(frame)[:-1] + b',"choices":[{"index":0,'
    return opening, b'}],"usage":null}\n\n' if usage else b"}]}\n\n"


def _body(frame: dict[str, Any], choice: dict[str, Any], usage: Usage) -> bytes:
    body: dict[str, Any] = {**frame, "choices": [choice]}
    if (member := usage_member(usage)) is not None:
        body["usage"] = member
    return jsonx.dumps(body)


def _call(call: ToolCall) -> dict[str, Any]:
    if call.custom:
        return {"id": call.id, "type": "custom", "custom": {"name": call.name, "input": call.arguments}}
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _call_delta(event: ToolCallDelta) -> dict[str, Any]:
    """id, type and name come with the first fragment only: clients append whatever they get."""
    outer: dict[str, Any] = {"index": event.index}
    inner: dict[str, Any] = {}
    kind = "custom" if event.custom else "function"
    if event.id:
        outer.update(id=event.id, type=kind)
    if event.name:
        inner["name"] = event.name
    inner["input" if event.custom else "arguments"] = event.arguments
    return {**outer, kind: inner}


def _chat_logprobs(tokens: Sequence[TokenLogprob]) -> dict[str, Any] | None:
    if not tokens:
        return None
    content = [
        {**_logprob(token), "top_logprobs": [_logprob(other) for other in token.top]} for token in tokens
    ]
    return {"content": content, "refusal": None}


def _logprob(token: TokenLogprob) -> dict[str, Any]:
    return {
        "token": token.token,
        "logprob": token.logprob,
        "bytes": None if token.bytes is None else list(token.bytes),
    }


def _packed(vector: Sequence[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
