"""Byte-true answers of Anthropic's Messages API (dialects.md §3)."""

from __future__ import annotations

import json
from typing import Any

from tests.fakes.behaviour import Behaviour
from tests.fakes.formats import CACHED_TOKENS, PROMPT_TOKENS, Stream, compact

CREATED_AT = "2026-02-19T00:00:00Z"
SIGNATURE = "EqQBCgIYAhIM1gbcDa9GJwZA2b3hGgxBdjrkzLoky3dl1pkiMOYds"
STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "content_filter": "refusal"}
TYPES = {400: "invalid_request_error", 401: "authentication_error", 402: "billing_error",
         403: "permission_error", 404: "not_found_error", 413: "request_too_large", 429: "rate_limit_error",
         500: "api_error", 504: "timeout_error", 529: "overloaded_error"}  # fmt: skip


def content(b: Behaviour) -> list[dict[str, Any]]:
    """The blocks of a whole answer: thinking, text, then tool calls."""
    blocks: list[dict[str, Any]] = []
    if b.reasoning:
        blocks.append({"type": "thinking", "thinking": b.reasoning, "signature": SIGNATURE})
    if not b.tool_calls:
        return [*blocks, {"type": "text", "text": b.text}]
    return blocks + [
        {"type": "tool_use", "id": f"toolu_{index:04d}", "name": call["name"],
         "input": json.loads(call["arguments"])}
        for index, call in enumerate(b.tool_calls)
    ]  # fmt: skip


def stop_reason(b: Behaviour) -> str | None:
    if b.tool_calls and b.finish == "stop":
        return "tool_use"
    return STOP_REASONS.get(b.finish, b.finish) if b.finish else None


def usage(b: Behaviour, completion: int) -> dict[str, Any]:
    """Of OpenAI's counts: Anthropic's input leaves out what came from the cache."""
    return {
        "input_tokens": b.prompt_tokens - CACHED_TOKENS,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": CACHED_TOKENS,
        "output_tokens": completion,
        "service_tier": "standard",
    }


def message(number: int, request: dict[str, Any], b: Behaviour) -> dict[str, Any]:
    return {
        "id": f"msg_{number:08d}",
        "type": "message",
        "role": "assistant",
        "model": str(request.get("model", "default")),
        **b.extra_members,
    }


# --- streams


def stream(number: int, request: dict[str, Any], b: Behaviour) -> Stream:
    end = b.newline.encode()

    def event(kind: str, **members: Any) -> bytes:
        return b"event: %b%bdata: %b%b%b" % (
            kind.encode(), end, compact({"type": kind, **members}), end, end,
        )  # fmt: skip

    first = {**message(number, request, b), "content": [], "stop_reason": None, "stop_sequence": None}
    if b.usage != "never":
        first["usage"] = usage(b, 1)
    tokens, closing = _blocks(event, b)
    if b.comment:
        tokens = [event("ping") + token for token in tokens]
    reason = stop_reason(b)
    if reason is not None:
        counts = {} if b.usage == "never" else {"usage": {"output_tokens": len(tokens)}}
        delta = {"stop_reason": reason, "stop_sequence": None}
        closing.append(event("message_delta", delta=delta, **counts))
    if b.done:
        closing.append(event("message_stop"))
    opening = [event("message_start", message=first), event("ping")]
    return Stream(opening, tokens, closing, "text/event-stream; charset=utf-8")


def _blocks(event: Any, b: Behaviour) -> tuple[list[bytes], list[bytes]]:
    """The events of all blocks, one for each token; the beginnings and ends of blocks go with their first
    and next token. And what closes the last block.
    """
    tokens: list[bytes] = []
    pending = b""
    for index, block in enumerate(content(b)):
        empty, deltas = _deltas(block, b)
        pending += event("content_block_start", index=index, content_block=empty)
        for delta in deltas:
            tokens.append(pending + event("content_block_delta", index=index, delta=delta))
            pending = b""
        pending += event("content_block_stop", index=index)
    return tokens, [pending]


def _deltas(block: dict[str, Any], b: Behaviour) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A block as it begins, and the deltas that fill it."""
    if block["type"] == "thinking":
        deltas = [{"type": "thinking_delta", "thinking": b.reasoning},
                  {"type": "signature_delta", "signature": SIGNATURE}]  # fmt: skip
        return {"type": "thinking", "thinking": "", "signature": ""}, deltas
    if block["type"] == "text":
        return {"type": "text", "text": ""}, [{"type": "text_delta", "text": word} for word in b.words]
    text = b.tool_calls[int(block["id"].removeprefix("toolu_"))]["arguments"] if block["input"] else ""
    cuts = ["", *(text[at : at + b.fragment] for at in range(0, len(text), b.fragment))]
    return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": cut} for cut in cuts]


# --- whole answers


def whole(operation: str, number: int, request: dict[str, Any], b: Behaviour) -> bytes:
    if operation == "count_tokens":
        return compact({"input_tokens": PROMPT_TOKENS, **b.extra_members})
    answer = {**message(number, request, b), "content": content(b), "stop_reason": stop_reason(b),
              "stop_sequence": None}  # fmt: skip
    if b.usage != "never":
        answer["usage"] = usage(b, len(_blocks(lambda *_, **__: b"", b)[0]))
    return compact(answer)


# --- errors and inventory


def error_body(status: int, message: str) -> bytes:
    kind = TYPES.get(status, "api_error")
    return compact({"type": "error", "error": {"type": kind, "message": message},
                    "request_id": "req_011CSHoEeqs5C35K2UUqR7Fy"})  # fmt: skip


def error_event(b: Behaviour) -> bytes:
    kind = b.code if isinstance(b.code, str) else "api_error"
    error = {"type": "error", "error": {"details": None, "type": kind, "message": b.message}}
    return b"event: error\ndata: " + compact(error) + b"\n\n"


def broken_event() -> bytes:
    return b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"ty\n\n'


def large_event(text: bytes) -> bytes:
    return (
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
        b'"delta":{"type":"text_delta","text":"%b"}}\n\n' % text
    )


def models(names: list[str]) -> bytes:
    data = [
        {"type": "model", "id": name, "display_name": name.title(), "created_at": CREATED_AT,
         "max_input_tokens": 200_000, "max_tokens": 64_000}
        for name in names
    ]  # fmt: skip
    return compact({"data": data, "has_more": False, "first_id": names[0] if names else None,
                    "last_id": names[-1] if names else None})  # fmt: skip
