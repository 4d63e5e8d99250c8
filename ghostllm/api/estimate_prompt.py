"""Tokens of a whole conversation, by the rule of thumb in `estimate`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ghostllm import jsonx
from ghostllm.api.canonical import (
    Audio,
    Conversation,
    CustomTool,
    File,
    Image,
    Part,
    Reasoning,
    Refusal,
    Text,
    Tool,
    ToolCall,
    ToolResult,
)
from ghostllm.api.estimate import (
    AUDIO_BYTES_PER_TOKEN,
    BYTES_PER_TOKEN,
    PAGE_BYTES,
    PER_CALL,
    PER_CONVERSATION,
    PER_IMAGE,
    PER_MESSAGE,
    PER_PAGE,
    PER_TOOL,
    TOOLING,
    estimate_text,
)
from ghostllm.errors import RequestError


def estimate_tokens(conversation: Conversation) -> int:
    """Tokens of the prompt: messages, tools and the schema of the answer. Raises RequestError."""
    count = PER_CONVERSATION
    for message in conversation.messages:
        count += PER_MESSAGE + sum(map(_part, message.parts))
    if conversation.tools:
        count += TOOLING + sum(map(_tool, conversation.tools))
    if conversation.response_format is not None:
        count += _json(conversation.response_format.schema)
    return count


def _part(part: Part) -> int:
    if isinstance(part, Text | Refusal):
        return estimate_text(part.text)
    if isinstance(part, Reasoning):
        return estimate_text(part.text) + -(-len(part.redacted) // BYTES_PER_TOKEN)
    if isinstance(part, ToolCall):
        return PER_CALL + estimate_text(part.name) + estimate_text(part.arguments)
    if isinstance(part, ToolResult):
        return PER_CALL + sum(map(_part, part.parts))
    if isinstance(part, Image):
        return PER_IMAGE
    if isinstance(part, File):
        return PER_PAGE * max(1, -(-len(part.data) // PAGE_BYTES))
    return _audio(part)


def _audio(part: Audio) -> int:
    return -(-len(part.data) // AUDIO_BYTES_PER_TOKEN)


def _tool(tool: Tool) -> int:
    shape = tool.format if isinstance(tool, CustomTool) else tool.parameters
    return PER_TOOL + estimate_text(tool.name) + estimate_text(tool.description) + _json(shape)


def _json(value: Mapping[str, Any] | None) -> int:
    """Raises RequestError for a schema deeper than JSON is written here (orjson: 254 levels)."""
    if value is None:
        return 0
    try:
        return estimate_text(jsonx.dumps(value).decode())
    except (TypeError, ValueError, RecursionError):
        raise RequestError("a schema is nested too deeply") from None
