"""The message object that an answer of Anthropic's dialect is: whole, or empty as a stream begins with it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ghostllm import jsonx
from ghostllm.api.anthropic.message_reader import OWN_SIGNATURE
from ghostllm.api.canonical import Answer, Finish, Part, Reasoning, Refusal, Text, ToolCall
from ghostllm.message import Usage

STOP_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
    "pause": "pause_turn",
}

INVALID_JSON = "INVALID_JSON"
"""The member that holds arguments which are no JSON object, as text. `input` has to be an object: clients
check it against the tool's schema and answer with a failed result, from which the model learns. An error
instead would end the conversation over one bad call. The name is the one that Anthropic's guide to
fine-grained tool streaming gives it.
"""

NAMELESS = "unknown"
"""The name of a call of which nobody said it: empty names are refused when they are sent back."""

_NO_TOKENS = {
    "input_tokens": 0,
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 0,
    "output_tokens": 0,
}
"""Clients add these up without asking which are there."""


def opening_message(identity: str, model: str, usage: Usage) -> dict[str, Any]:
    """Clients read the figures here, so they are numbers; the end of the stream corrects them."""
    return _message(identity, model, [], None, None, usage)


def whole_message(identity: str, model: str, answer: Answer) -> dict[str, Any]:
    content: list[dict[str, Any]] = []
    for part in answer.parts:
        content.extend(_blocks(part, call_id(identity, len(content))))
    refused = any(isinstance(part, Refusal) for part in answer.parts)
    reason, sequence = stop_reason(answer.finish, refused), stop_sequence(answer.finish)
    return _message(identity, model, content, reason, sequence, answer.usage)


def stop_reason(finish: Finish, refused: bool) -> str:
    """refused: the model declined in words of its own, whatever else it says of its end."""
    if finish.reason == "stop":
        return "refusal" if refused else "end_turn" if finish.stop_sequence is None else "stop_sequence"
    return STOP_REASONS[finish.reason]


def stop_sequence(finish: Finish | None) -> str | None:
    return finish.stop_sequence if finish and finish.reason == "stop" else None


def known_usage(usage: Usage) -> dict[str, Any]:
    """What is known. `output_tokens` is always there: SDKs declare it so. Anthropic counts the input without
    what the cache gave and took, a neutral prompt with it.
    """
    cached, written = usage.cached or 0, usage.cache_write or 0
    counts = {
        "input_tokens": None if usage.prompt is None else max(0, usage.prompt - cached - written),
        "cache_creation_input_tokens": usage.cache_write,
        "cache_read_input_tokens": usage.cached,
        "output_tokens": usage.completion or 0,
    }
    member: dict[str, Any] = {name: count for name, count in counts.items() if count is not None}
    if usage.reasoning is not None:
        member["output_tokens_details"] = {"thinking_tokens": usage.reasoning}
    return member


def call_id(identity: str, index: int) -> str:
    """An id for the call in block `index` of message `identity`, where nobody gave it one."""
    return f"toolu_{identity}_{index}"


def _message(
    identity: str, model: str, content: list[Any], reason: str | None, sequence: str | None, usage: Usage
) -> dict[str, Any]:
    return {
        "id": identity,
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": reason,
        "stop_sequence": sequence,
        "usage": {**_NO_TOKENS, **known_usage(usage)},
    }


def _blocks(part: Part, identity: str) -> Iterator[dict[str, Any]]:
    """identity: for a call without an id."""
    if isinstance(part, Text | Refusal):
        yield {"type": "text", "text": part.text}
    elif isinstance(part, ToolCall):
        name = part.name or NAMELESS
        yield {"type": "tool_use", "id": part.id or identity, "name": name, "input": _input(part)}
    elif isinstance(part, Reasoning):
        if part.text or part.signature:
            signature = part.signature or OWN_SIGNATURE
            yield {"type": "thinking", "thinking": part.text, "signature": signature}
        if part.redacted:
            yield {"type": "redacted_thinking", "data": part.redacted}


def _input(call: ToolCall) -> dict[str, Any]:
    """The arguments as the object that `input` has to be. What is nested deeper than JSON is written here
    counts as none.
    """
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
