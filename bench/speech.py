"""The bytes of the mock's answers and of the clients' requests, in each dialect, made once.

A streamed token is the machine's monotonic clock at its writing, in nanoseconds: whoever reads it at the far
end knows how long it took. STAMP finds it in every dialect.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

TOKENS = 64
STAMP = re.compile(rb'"(?:content|text)": ?"(\d{6,})"')
ENDINGS = (b"[DONE]", b'"done":true', b'"done": true', b"message_stop")
"""What stands in the last event of a stream that is whole."""

TEXT = "All is well. " * 8
QUESTION = "Tell me how things are. " * 36
CREATED = "2026-09-21T12:53:20.000000Z"


def compact(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def whole(value: Any, status: bytes = b"200 OK") -> bytes:
    body = compact(value)
    return b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
        status,
        len(body),
        body,
    )


@dataclass(frozen=True)
class Speech:
    """How a server of one dialect answers. answer: a whole response. begin: head and first events of a
    stream; token: one event, %d for the stamp; end: the last events and the end of the body. listing: of
    models.
    """

    path: str
    answer: bytes
    begin: bytes
    token: bytes
    end: bytes
    listing_path: str
    listing: bytes


def _stream_head(kind: bytes) -> bytes:
    return (
        b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nCache-Control: no-cache\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n"
    ) % kind


def _body_end(*events: bytes) -> bytes:
    return b"".join(map(chunk, events)) + b"0\r\n\r\n"


def _template(value: Any) -> bytes:
    return compact(value).replace(b"%", b"%%").replace(b"STAMP", b"%d")


def _openai() -> Speech:
    frame = {
        "id": "chatcmpl-bench",
        "object": "chat.completion.chunk",
        "created": 1790000000,
        "model": "bench",
    }

    def event(delta: dict[str, Any], finish: str | None) -> dict[str, Any]:
        return {**frame, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]}

    message = {"role": "assistant", "content": TEXT}
    usage = {"prompt_tokens": 200, "completion_tokens": TOKENS, "total_tokens": 200 + TOKENS}
    return Speech(
        path="/v1/chat/completions",
        answer=whole({
            **frame, "object": "chat.completion",
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
            "usage": usage,
        }),
        begin=_stream_head(b"text/event-stream"),
        token=b"data: %b\n\n" % _template(event({"content": "STAMP"}, None)),
        end=_body_end(
            b"data: %b\n\n" % compact(event({}, "stop")),
            b"data: %b\n\n" % compact({**frame, "choices": [], "usage": usage}),
            b"data: [DONE]\n\n",
        ),
        listing_path="/v1/models",
        listing=whole({"object": "list", "data": [
            {"id": name, "object": "model", "created": 1, "owned_by": "bench"}
            for name in ("bench", "slow")]}),
    )  # fmt: skip


def _ollama() -> Speech:
    frame = {"model": "bench-ollama", "created_at": CREATED}
    last = {
        "done": True, "done_reason": "stop", "total_duration": 1_300_000_000, "load_duration": 1_000_000,
        "prompt_eval_count": 200, "prompt_eval_duration": 10_000_000, "eval_count": TOKENS,
        "eval_duration": 1_280_000_000,
    }  # fmt: skip
    details = {"parent_model": "", "format": "gguf", "family": "bench", "families": ["bench"],
               "parameter_size": "1B", "quantization_level": "Q8_0"}  # fmt: skip
    token = {**frame, "message": {"role": "assistant", "content": "STAMP"}, "done": False}
    return Speech(
        path="/api/chat",
        answer=whole({**frame, "message": {"role": "assistant", "content": TEXT}, **last}),
        begin=_stream_head(b"application/x-ndjson"),
        token=_template(token) + b"\n",
        end=_body_end(compact({**frame, "message": {"role": "assistant", "content": ""}, **last}) + b"\n"),
        listing_path="/api/tags",
        listing=whole({"models": [
            {"name": "bench-ollama", "model": "bench-ollama", "modified_at": CREATED, "size": 1,
             "digest": "0" * 64, "details": details}]}),
    )  # fmt: skip


def _anthropic() -> Speech:
    def event(kind: str, **members: Any) -> bytes:
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), compact({"type": kind, **members}))

    usage = {"input_tokens": 200, "output_tokens": TOKENS}
    message = {"id": "msg_bench", "type": "message", "role": "assistant", "model": "bench-anthropic"}
    start: dict[str, Any] = {**message, "content": [], "stop_reason": None, "stop_sequence": None,
             "usage": {"input_tokens": 200, "output_tokens": 1}}  # fmt: skip
    block = {"type": "text", "text": ""}
    token = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "STAMP"}}
    stop = {"stop_reason": "end_turn", "stop_sequence": None}
    return Speech(
        path="/v1/messages",
        answer=whole({**message, "content": [{"type": "text", "text": TEXT}], **stop, "usage": usage}),
        begin=_stream_head(b"text/event-stream")
        + chunk(event("message_start", message=start))
        + chunk(event("content_block_start", index=0, content_block=block)),
        token=b"event: content_block_delta\ndata: %b\n\n" % _template(token),
        end=_body_end(
            event("content_block_stop", index=0),
            event("message_delta", delta=stop, usage={"output_tokens": TOKENS}),
            event("message_stop"),
        ),
        listing_path="/v1/models",
        listing=whole({"data": [
            {"type": "model", "id": "bench-anthropic", "display_name": "Bench", "created_at": CREATED}],
            "has_more": False, "first_id": "bench-anthropic", "last_id": "bench-anthropic"}),
    )  # fmt: skip


SPEECH = {"openai": _openai(), "ollama": _ollama(), "anthropic": _anthropic()}
BACKEND_MODEL = {"openai": "bench", "ollama": "bench-ollama", "anthropic": "bench-anthropic"}
"""The model that a gateway finds only behind the mock's side of that dialect."""


def body(dialect: str = "openai", model: str = "bench", *, stream: bool = False) -> bytes:
    """A chat of about 1 KB, as a client of that dialect writes it."""
    user = {"role": "user", "content": QUESTION}
    if dialect == "openai":
        system = {"role": "system", "content": "You are a helpful assistant."}
        asked = {"model": model, "messages": [system, user], "temperature": 0.7, "max_tokens": TOKENS}
    elif dialect == "ollama":
        asked = {"model": model, "messages": [user], "options": {"temperature": 0.7, "num_predict": TOKENS}}
    else:
        asked = {"model": model, "messages": [user], "temperature": 0.7, "max_tokens": TOKENS}
    if stream or dialect == "ollama":  # Ollama streams unless told
        asked["stream"] = stream
    return compact(asked)
