"""Thinking under one name. vLLM, OpenRouter and newer LM Studio call it `reasoning`; clients of chat
completions read `reasoning_content`.

In sound JSON the bytes `"reasoning"` before a colon are a key, because a quotation mark inside a string has
a backslash before it. Where every such key of a text has to be renamed, the bytes between them stay.
"""

from __future__ import annotations

import re
from typing import Any, TypeGuard

from ghostllm import jsonx

REASONING_FIELD = "reasoning_content"
OTHER = "reasoning"

_KEY = re.compile(rb'(?<!\\)"reasoning"(?=[ \t\r\n]*:)')
_NEW_KEY = b'"%b"' % REASONING_FIELD.encode()


def count(value: dict[str, Any], member: str) -> int:
    """How many choices of a chunk or body have thinking under the other name only. member: delta, message."""
    return sum(1 for choice in _choices(value) if _is_other(choice.get(member)))


def only(data: bytes, times: int) -> bool:
    """Whether the other name is a key in `data` that many times, and so nowhere else than in the choices."""
    return len(_KEY.findall(data)) == times


def renamed(data: bytes) -> bytes:
    """Bytes of which `only` holds, or a part of such bytes."""
    return _KEY.sub(_NEW_KEY, data)


def rewritten(data: bytes, member: str, times: int) -> bytes:
    """JSON with the thinking of `times` choices renamed. Bytes stay, unless the key stands elsewhere too."""
    if only(data, times):
        return renamed(data)
    value = jsonx.loads(data)
    for choice in _choices(value):
        part = choice.get(member)
        if _is_other(part):
            choice[member] = {
                REASONING_FIELD if name == OTHER else name: content for name, content in part.items()
            }
    return jsonx.dumps(value)


def _choices(value: dict[str, Any]) -> list[dict[str, Any]]:
    choices = value.get("choices")
    return [choice for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []


def _is_other(part: Any) -> TypeGuard[dict[str, Any]]:
    if not isinstance(part, dict) or OTHER not in part or REASONING_FIELD in part:
        return False
    return part[OTHER] is None or isinstance(part[OTHER], str)
