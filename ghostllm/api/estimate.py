"""How many tokens a conversation has, roughly: for clients that ask beforehand, where no backend can count.

A rule of thumb, not a tokeniser: vocabularies differ by more than any one of them could tell. Of English,
vocabularies of today make a token of about four bytes, of source code one of three to four; of Chinese,
Japanese and Korean one of a character or a little less; of other scripts (Cyrillic, Greek, Arabic, Hindi) one
of two or three characters, which have two or three bytes each. So a byte of UTF-8 counts a quarter, and a
character that has three bytes or more counts as one token: too many rather than too few, for those who ask
want to know whether something fits.
"""

from __future__ import annotations

import re
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
from ghostllm.errors import RequestError

BYTES_PER_TOKEN = 4
PER_CONVERSATION = 3  # what a template puts in front of the answer
PER_MESSAGE = 4  # role and marks around a turn
PER_TOOL = 12  # marks around the description of a tool
TOOLING = 60  # the template's words on how to call any tool
PER_CALL = 8  # marks around a call or a result
PER_IMAGE = 1_100  # about a megapixel at Anthropic (pixels / 750, at most 1600) and at OpenAI (765 to 1105)
PER_PAGE = 2_000  # of a file: Anthropic counts 1,500 to 3,000 for one page of a PDF
PAGE_BYTES = 50_000  # base64 that makes one page
AUDIO_BYTES_PER_TOKEN = 4_000  # base64 of 16-bit samples at 16 kHz: about ten tokens a second

_WIDE = re.compile("[\u0800-\U0010ffff]")
"""Characters of three or four bytes in UTF-8."""


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


def estimate_text(text: str) -> int:
    """Tokens of a plain text."""
    if text.isascii():
        return -(-len(text) // BYTES_PER_TOKEN)
    narrow, wide = _WIDE.subn("", text)
    return -(-len(narrow.encode("utf-8", "replace")) // BYTES_PER_TOKEN) + wide


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
